import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from petseg.data.label_map import IGNORE
from petseg.metrics import confusion, pixel_counts

CLASSES = 4
LABELS = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(1, 8)),
    elements=st.sampled_from([0, 1, 2, 3, IGNORE]),
)  # fmt: skip


@st.composite
def pairs(draw):
    truth = draw(LABELS)
    predicted = draw(hnp.arrays(np.int64, truth.shape, elements=st.integers(0, CLASSES - 1)))
    return truth, predicted


@settings(deadline=None)
@given(pairs())
def test_pairs_are_counted_as_a_plain_loop_counts_them(pair):
    truth, predicted = pair
    expected = np.zeros((CLASSES, CLASSES), np.int64)
    for t, p in zip(truth.ravel(), predicted.ravel(), strict=True):
        if t != IGNORE:
            expected[t, p] += 1
    counts = pixel_counts.count_pairs(truth, predicted, CLASSES)
    assert counts.dtype == "int64" and counts.shape == (len(truth), CLASSES, CLASSES)
    np.testing.assert_array_equal(tf.reduce_sum(counts, 0), expected)
    # The counts of an image do not depend on the other images.
    for image in range(len(truth)):
        alone = pixel_counts.count_pairs(truth[image][None], predicted[image][None], CLASSES)
        np.testing.assert_array_equal(counts[image], alone[0])
    np.testing.assert_array_equal(pixel_counts.areas(counts), confusion.areas(counts.numpy()))


def test_two_to_the_25_pixels_are_counted_exactly():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (1, 2**25), np.uint8)
    predicted = truth.copy()
    predicted[0, :3] ^= 1
    counts = pixel_counts.count_pairs(truth, predicted, 2)[0].numpy()
    ones, wrong_ones = int(truth.sum(dtype=np.int64)), int(truth[0, :3].sum())
    assert counts.tolist() == [
        [2**25 - ones - (3 - wrong_ones), 3 - wrong_ones],
        [wrong_ones, ones - wrong_ones],
    ]


def test_counts_stay_exact_beyond_float32():
    # 2^24 + 1 is the first whole number that float32 cannot represent.
    zeros = np.zeros((1, 2**24 + 1), np.uint8)
    counts = pixel_counts.count_pairs(zeros, zeros, 2)[0].numpy() * 3
    assert counts[0, 0] == 3 * (2**24 + 1)
    counts[0, 1] = 1
    assert counts.sum() == 3 * (2**24 + 1) + 1
    assert confusion.iou(counts)[0] < 1
