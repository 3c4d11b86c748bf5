"""Run lengths against decoders that share nothing with the encoder."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from petseg.data import run_lengths

MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def decode(text, height, width):
    """As competitions define it: pixel 1 is the top left one, pixel 2 the one below it."""
    mask = np.zeros((height, width), bool)
    numbers = [int(word) for word in text.split(" ")] if text else []
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        for number in range(start, start + length):
            column, row = divmod(number - 1, height)
            assert not mask[row, column]
            mask[row, column] = True
    return mask


@given(MASKS)
@example(np.zeros((3, 4), bool))
@example(np.ones((3, 4), bool))
@example(np.ones((1, 1), bool))
@example(np.ones((1, 7), bool))
@example(np.eye(1, 7, 3, dtype=bool))
@example(np.eye(5, 4, dtype=bool))
def test_every_mask_comes_back(mask):
    text = run_lengths.encode(mask)
    np.testing.assert_array_equal(decode(text, *mask.shape), mask)
    numbers = np.array(text.split(), int).reshape(-1, 2)
    assert (numbers[:, 1] > 0).all()
    # Runs ascend, and do not touch: there is one text of a mask.
    assert (numbers[1:, 0] > numbers[:-1].sum(1)).all()


@pytest.mark.parametrize("shape", [(500, 375), (1, 640), (640, 1)])
def test_pycocotools_reads_the_same_mask(shape):
    mask = np.random.default_rng(0).random(shape) < np.linspace(0, 1, shape[1])
    numbers = np.array(run_lengths.encode(mask).split(), int).reshape(-1, 2)
    ends = np.concatenate([[0], numbers.sum(1) - 1])
    # COCO's runs are outside and inside by turns.
    counts = np.stack([numbers[:, 0] - 1 - ends[:-1], numbers[:, 1]], axis=1).ravel().tolist()
    counts.append(mask.size - int(ends[-1]))
    found = coco.decode(coco.frPyObjects({"size": list(shape), "counts": counts}, *shape))
    np.testing.assert_array_equal(found, mask)


def test_pixels_are_numbered_down_the_columns_from_one():
    mask = np.array([[0, 1, 0], [1, 1, 0]], bool)
    assert run_lengths.encode(mask) == "2 3"
    assert run_lengths.encode(mask.T) == "2 1 4 2"
    assert run_lengths.encode(~mask) == "1 1 5 2"
    assert run_lengths.encode(np.zeros((2, 3), bool)) == ""
