"""Bands and boundaries against plain NumPy, pixel by pixel."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from petseg.data.label_map import IGNORE
from petseg.metrics import boundaries

CLASSES = 3
LABELS = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)),
    elements=st.sampled_from([0, 0, 0, 1, 2, IGNORE]),
)  # fmt: skip


def near_another(ids: np.ndarray, radius: int) -> np.ndarray:
    """Whether the square around a pixel has another value, pixel by pixel."""
    is_near = np.zeros(ids.shape, bool)
    for y, x in np.ndindex(*ids.shape):
        square = ids[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
        is_near[y, x] = (square != ids[y, x]).any()
    return is_near


def eroded(mask: np.ndarray, times: int) -> np.ndarray:
    """Repeated erosion by a square of 3 x 3; the mask ends where the image ends."""
    for _ in range(times):
        padded = np.pad(mask, 1)
        shifts = [
            padded[y : y + mask.shape[0], x : x + mask.shape[1]] for y in range(3) for x in range(3)
        ]
        mask = np.logical_and.reduce(shifts)
    return mask


def boundary_counts(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """As the paper defines it, class by class: each mask minus its erosion."""
    width = max(round(0.02 * float(np.hypot(*truth.shape))), 1)
    counts = np.zeros((CLASSES, 2), int)
    for class_id in range(CLASSES):
        masks = [(ids == class_id) & (truth != IGNORE) for ids in (truth, predicted)]
        one, other = (mask & ~eroded(mask, width) for mask in masks)
        counts[class_id] = (one & other).sum(), (one | other).sum()
    return counts


@settings(deadline=None, max_examples=40)
@given(LABELS)
def test_a_band_is_made_of_the_pixels_near_another_class(ids):
    radii = (1, 2, 5)
    for radius, band in zip(radii, boundaries.border_bands(ids, radii), strict=True):
        np.testing.assert_array_equal(band, near_another(ids, radius))


def test_bands_of_a_large_mask_are_nested():
    rng = np.random.default_rng(0)
    ids = np.kron(rng.integers(0, 3, (9, 7), np.uint8), np.ones((11, 13), np.uint8))
    bands = [band.numpy() for band in boundaries.border_bands(ids, (2, 4, 8, 16))]
    for radius, band in zip((2, 4, 8, 16), bands, strict=True):
        np.testing.assert_array_equal(band, near_another(ids, radius))
    assert all((a <= b).all() and a.sum() < b.sum() for a, b in itertools.pairwise(bands))


@settings(deadline=None, max_examples=40)
@given(LABELS, st.randoms(use_true_random=False))
def test_boundaries_are_counted_as_erosion_counts_them(truth, random):
    predicted = np.array(
        [random.choice([0, 0, 1, 2]) for _ in range(truth.size)], np.uint8
    ).reshape(truth.shape)
    counts = boundaries.count_boundaries(truth, predicted, CLASSES)
    np.testing.assert_array_equal(counts, boundary_counts(truth, predicted))


@pytest.mark.parametrize("sides", [(120, 90), (200, 3), (1, 150)])
def test_boundaries_of_long_masks_are_counted_as_erosion_counts_them(sides):
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 3, (5, 5), np.uint8)
    truth = np.kron(coarse, np.ones((40, 30), np.uint8))[: sides[0], : sides[1]]
    predicted = np.roll(truth, (3, 2), (0, 1))
    truth = truth.copy()
    truth[: sides[0] // 8] = IGNORE
    counts = boundaries.count_boundaries(truth, predicted, CLASSES).numpy()
    np.testing.assert_array_equal(counts, boundary_counts(truth, predicted))


def test_boundary_iou_is_right_for_adversarial_masks():
    one = np.zeros((1, 1), np.uint8)
    # One pixel is all boundary; absent classes have no value.
    ious = boundaries.boundary_iou(boundaries.count_boundaries(one, one, CLASSES).numpy())
    assert ious[0] == 1 and np.isnan(ious[1:]).all()
    ignored = np.full((20, 20), IGNORE, np.uint8)
    counts = boundaries.count_boundaries(ignored, np.zeros_like(ignored), CLASSES).numpy()
    assert (counts == 0).all() and np.isnan(boundaries.boundary_iou(counts)).all()
    # Pixels inside a large mask do not raise the boundary IoU.
    truth, predicted = np.zeros((2, 200, 200), np.uint8)
    truth[20:180, 20:180] = predicted[30:170, 30:170] = 1
    ious = boundaries.boundary_iou(boundaries.count_boundaries(truth, predicted, 2).numpy())
    plain = (truth & predicted).sum() / (truth | predicted).sum()
    assert ious[1] == 0 and plain > 0.7
