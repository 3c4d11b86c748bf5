"""Metrics of images against loops over masks, in plain NumPy."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from petseg.data.label_map import IGNORE
from petseg.metrics import confusion, image_metrics, pixel_counts
from petseg.metrics.measure import image_counts, measure

NAMES = ("background", "cat", "dog")
MASKS = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
    elements=st.sampled_from([0, 1, 2, IGNORE]),
)


@st.composite
def pairs(draw):
    truth = draw(MASKS)
    predicted = draw(hnp.arrays(np.uint8, truth.shape, elements=st.integers(0, 2)))
    return truth, predicted


def measured(truth, predicted, names=NAMES):
    counts = pixel_counts.count_pairs(truth, predicted, len(names))
    return measure(counts.numpy().sum(0), pixel_counts.areas(counts).numpy(), names)


def dice_by_hand(truth, predicted, classes):
    values = []
    for of_image, found in zip(truth, predicted, strict=True):
        valid = of_image != IGNORE
        if not valid.any():
            continue
        for class_id in classes:
            one, other = (of_image == class_id) & valid, (found == class_id) & valid
            if not one.any() and not other.any():
                values.append(1.0)
            else:
                values.append(2 * (one & other).sum() / (one.sum() + other.sum()))
    return np.mean(values) if values else None


@given(pairs())
@example((np.full((2, 2, 2), IGNORE, np.uint8), np.zeros((2, 2, 2), np.uint8)))
@example((np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 2), np.uint8)))
def test_image_dice_is_what_a_loop_over_images_gives(pair):
    expected = dice_by_hand(*pair, classes=(1, 2))
    assert measured(*pair)["image_dice"] == pytest.approx(expected, nan_ok=True)


@given(pairs())
def test_image_mean_iou_is_what_a_loop_over_images_gives(pair):
    ious = []
    for truth, predicted in zip(*pair, strict=True):
        valid = truth != IGNORE
        of_image = [
            ((truth == c) & (predicted == c) & valid).sum()
            / (((truth == c) | (predicted == c)) & valid).sum()
            for c in range(3)
            if (((truth == c) | (predicted == c)) & valid).any()
        ]
        if of_image:
            ious.append(np.mean(of_image))
    expected = np.mean(ious) if ious else None
    assert measured(*pair)["image_mean_iou"] == pytest.approx(expected)


def test_an_empty_prediction_of_an_empty_truth_counts_one_and_any_pixel_zero():
    empty, full, dot = np.zeros((1, 4, 4)), np.ones((1, 4, 4)), np.zeros((1, 4, 4))
    dot[0, 2, 1] = 1
    names = ("background", "nerve")

    def dice(truth, predicted):
        return measured(truth.astype(np.uint8), predicted.astype(np.uint8), names)["image_dice"]

    assert dice(empty, empty) == 1
    assert dice(empty, dot) == dice(dot, empty) == 0
    assert dice(full, full) == 1
    both = (np.concatenate([empty, full]), np.concatenate([dot, full]))
    assert dice(*both) == 0.5
    assert dice(full, dot) == pytest.approx(2 / 17)


def test_only_the_background_is_left_out_whatever_its_id_or_case():
    truth = np.array([[[0, 1, 2, 2]]], np.uint8)
    predicted = np.array([[[0, 2, 2, 2]]], np.uint8)
    of_class = [1, 0, 4 / 5]
    for names, classes in (
        (("a", "b", "c"), (0, 1, 2)),
        (("a", "b", "Background"), (0, 1)),
        (("background", "b", "_background_"), (1,)),
    ):
        found = measured(truth, predicted, names)["image_dice"]
        assert found == pytest.approx(np.mean([of_class[i] for i in classes]))


def test_an_image_without_a_counted_pixel_has_no_iou():
    areas = confusion.areas(np.array([[[0, 0], [0, 0]], [[3, 1], [0, 0]]]))
    counts = image_counts(areas, ("a", "b"))
    np.testing.assert_array_equal(image_metrics.ious(counts), [[np.nan, np.nan], [0.75, 0]])
    np.testing.assert_array_equal(image_metrics.mean_ious(counts), [np.nan, 0.375])
