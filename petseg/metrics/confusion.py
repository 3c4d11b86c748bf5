"""The built-in metrics, each a function of a confusion matrix.

All take int64 counts [classes, classes], rows the truth. A class is absent if neither the
truth nor a prediction has a pixel of it: it has no value (NaN), and means leave it out.
"""

import numpy as np

from petseg.metrics.base import Metric


def areas(confusion: np.ndarray) -> np.ndarray:
    """Pixels of each class: predicted rightly, true, predicted.

    Args:
      confusion: int64 [..., classes, classes].

    Returns:
      int64 [..., classes, 3].
    """
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    return np.stack([right, confusion.sum(-1), confusion.sum(-2)], axis=-1)


def iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union: float64 [classes], NaN where a class is absent."""
    right, truth, predicted = areas(confusion).T
    return _divide(right, truth + predicted - right)


def dice(confusion: np.ndarray) -> np.ndarray:
    """Dice coefficient, also called F1: float64 [classes], NaN where a class is absent."""
    right, truth, predicted = areas(confusion).T
    return _divide(2 * right, truth + predicted)


def precision(confusion: np.ndarray) -> np.ndarray:
    """Share of a class's predicted pixels that are right: float64 [classes], NaN without any."""
    right, _, predicted = areas(confusion).T
    return _divide(right, predicted)


def recall(confusion: np.ndarray) -> np.ndarray:
    """Share of a class's true pixels that were predicted: float64 [classes], NaN without any."""
    right, truth, _ = areas(confusion).T
    return _divide(right, truth)


def mean_iou(confusion: np.ndarray) -> float:
    """Mean IoU over the classes that are not absent; NaN if all are."""
    ious = iou(confusion)
    present = ious[~np.isnan(ious)]
    return float(present.mean()) if present.size else float("nan")


def pixel_accuracy(confusion: np.ndarray) -> float:
    """Share of the counted pixels that are right; NaN if none was counted."""
    return float(_divide(np.diag(confusion).sum(), confusion.sum()))


def frequency_weighted_iou(confusion: np.ndarray) -> float:
    """IoU weighted by each class's share of the true pixels; NaN if none was counted."""
    truth = confusion.sum(axis=1)
    weighted = np.where(truth > 0, truth * iou(confusion), 0.0)
    return float(_divide(weighted.sum(), truth.sum()))


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.true_divide(numerator, denominator)


MEAN_IOU = Metric(mean_iou, "metrics/mean_iou")
PIXEL_ACCURACY = Metric(pixel_accuracy, "metrics/pixel_accuracy")
FREQUENCY_WEIGHTED_IOU = Metric(frequency_weighted_iou, "metrics/frequency_weighted_iou")
IOU = Metric(iou, "iou/{class}", per_class=True)
DICE = Metric(dice, per_class=True)
PRECISION = Metric(precision, per_class=True)
RECALL = Metric(recall, per_class=True)
