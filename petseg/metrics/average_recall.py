"""Average recall of proposals, as COCO's evaluation has it without categories.

Source: Hosang, Benenson, Dollar and Schiele 2016, "What Makes for Effective Detection Proposals?";
Lin et al. 2014, "Microsoft COCO".
"""

from collections.abc import Iterable, Sequence

import numpy as np

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
COUNTS = (1, 10, 100)


def mask_ious(masks: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Intersection over union of every mask with every object's.

    Args:
      masks: bool [n, height, width].
      objects: bool [m, height, width]; in no pair are both empty.

    Returns:
      float64 [n, m].
    """
    columns = []
    for one in objects:
        shared = (masks & one).sum((1, 2))
        columns.append(shared / (masks.sum((1, 2)) + one.sum() - shared))
    return np.stack(columns, 1) if columns else np.zeros((len(masks), 0))


def count_found(
    ious: np.ndarray, counts: Sequence[int] = COUNTS, thresholds: np.ndarray = IOU_THRESHOLDS
) -> np.ndarray:
    """How many objects of a picture its proposals find.

    Each proposal in turn, the best first, finds the object that it overlaps most of those that
    none has found yet, if their IoU is at least the threshold.

    Args:
      ious: float [proposals, objects]; the proposals in the order of their scores.
      counts: Numbers of proposals, of which the best are taken.
      thresholds: float [thresholds].

    Returns:
      int64 [counts, thresholds].
    """
    rows, found = np.arange(len(thresholds)), np.zeros((len(counts), len(thresholds)), np.int64)
    is_found = np.zeros((len(thresholds), ious.shape[1]), bool)
    for index, of_proposal in enumerate(ious[: max(counts)]):
        left = np.where(is_found, -1.0, of_proposal)
        if left.size:
            best = left.shape[1] - 1 - left[:, ::-1].argmax(1)  # the last of equals, as COCO's
            finds = left[rows, best] >= np.minimum(thresholds, 1 - 1e-10)
            is_found[rows[finds], best[finds]] = True
        for row, count in enumerate(counts):
            if index < count:
                found[row] = is_found.sum(1)
    return found


def average_recall(found: Iterable[np.ndarray], objects: int) -> np.ndarray:
    """Mean over IoU thresholds of the share of objects that are found.

    Args:
      found: From count_found, of each picture.
      objects: Number of objects in all pictures.

    Returns:
      float64 [counts]; NaN without an object.
    """
    with np.errstate(invalid="ignore"):
        return (np.sum(list(found), 0) / np.float64(objects)).mean(-1)
