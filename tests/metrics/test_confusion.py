"""The built-in metrics against sets of pixels and scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from petseg.metrics import confusion

CLASSES = 4
PIXELS = st.integers(0, 60)


def count(truth, predicted):
    counts = np.zeros((CLASSES, CLASSES), np.int64)
    np.add.at(counts, (truth, predicted), 1)
    return counts


@st.composite
def pairs(draw):
    size = draw(PIXELS)
    ids = hnp.arrays(np.int64, size, elements=st.integers(0, CLASSES - 1))
    return draw(ids), draw(ids)


@settings(deadline=None)
@given(pairs())
def test_metrics_are_those_of_sets_of_pixels(pair):
    truth, predicted = pair
    counts = count(truth, predicted)
    iou, dice = confusion.iou(counts), confusion.dice(counts)
    precision, recall = confusion.precision(counts), confusion.recall(counts)
    ious = []
    for class_id in range(CLASSES):
        t, p = truth == class_id, predicted == class_id
        both, union = (t & p).sum(), (t | p).sum()
        if union == 0:
            assert np.isnan(iou[class_id]) and np.isnan(dice[class_id])
        else:
            ious.append(both / union)
            assert iou[class_id] == pytest.approx(ious[-1])
            assert dice[class_id] == pytest.approx(2 * both / (t.sum() + p.sum()))
        for value, total in ((precision[class_id], p.sum()), (recall[class_id], t.sum())):
            assert np.isnan(value) if total == 0 else value == pytest.approx(both / total)
    if ious:
        assert confusion.mean_iou(counts) == pytest.approx(np.mean(ious))
        assert confusion.pixel_accuracy(counts) == pytest.approx((truth == predicted).mean())
    else:
        assert np.isnan(confusion.mean_iou(counts)) and np.isnan(confusion.pixel_accuracy(counts))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("present", [(0, 1, 2, 3), (1, 3), (2,)])
def test_metrics_are_those_of_scikit_learn(seed, present):
    rng = np.random.default_rng(seed)
    truth = rng.choice(np.array(present), 782)
    predicted = rng.integers(0, CLASSES, truth.shape)
    counts = sklearn.metrics.confusion_matrix(truth, predicted, labels=range(CLASSES))
    np.testing.assert_array_equal(counts, count(truth, predicted))
    for metric, function in (
        (confusion.iou, sklearn.metrics.jaccard_score),
        (confusion.precision, sklearn.metrics.precision_score),
        (confusion.recall, sklearn.metrics.recall_score),
        (confusion.dice, sklearn.metrics.f1_score),
    ):
        empty = 0.0 if metric is confusion.iou else np.nan
        options = {"labels": range(CLASSES), "average": None, "zero_division": empty}
        values, expected = metric(counts), function(truth, predicted, **options)
        there = counts.sum(0) + counts.sum(1) > 0
        if metric is confusion.dice:
            expected = np.nan_to_num(expected)
        np.testing.assert_allclose(values[there], expected[there])
    accuracy = sklearn.metrics.accuracy_score(truth, predicted)
    assert confusion.pixel_accuracy(counts) == pytest.approx(accuracy)
    weights = counts.sum(1) / counts.sum()
    weighted = np.nansum(weights * confusion.iou(counts))
    assert confusion.frequency_weighted_iou(counts) == pytest.approx(weighted)


def test_a_frequency_weighted_iou_leaves_out_classes_without_a_true_pixel():
    # Class 1 is only predicted, class 2 is absent.
    counts = np.array([[6, 2, 0], [0, 0, 0], [0, 0, 0]])
    assert confusion.frequency_weighted_iou(counts) == 6 / 8
    assert np.isnan(confusion.frequency_weighted_iou(np.zeros((2, 2), np.int64)))
