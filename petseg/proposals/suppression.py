"""Boxes: how much they overlap, and which of them are left out for a better one."""

import numpy as np


def box_ious(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of every box with every other one.

    Args:
      boxes: float or int [n, 4]; left, top, width and height in pixels, none of them empty.
      others: [m, 4].

    Returns:
      float64 [n, m].
    """
    boxes, others = np.asarray(boxes, float)[:, None], np.asarray(others, float)[None]
    start = np.maximum(boxes[..., :2], others[..., :2])
    end = np.minimum(boxes[..., :2] + boxes[..., 2:], others[..., :2] + others[..., 2:])
    shared = np.maximum(end - start, 0).prod(-1)
    return shared / (boxes[..., 2:].prod(-1) + others[..., 2:].prod(-1) - shared)


def suppress(boxes: np.ndarray, scores: np.ndarray, max_iou: float, count: int) -> np.ndarray:
    """Non-maximum suppression: the best boxes, without those that overlap a better one.

    Args:
      boxes: [n, 4]; left, top, width and height.
      scores: float [n]; of equals the first is the better one.
      max_iou: Most that a box may overlap a better one that is kept; 1 keeps all.
      count: Most boxes that are kept.

    Returns:
      int64 [kept], indices of the kept ones, the best first.
    """
    left, kept = np.argsort(-scores, kind="stable"), []
    while left.size and len(kept) < count:
        best, left = left[0], left[1:]
        kept.append(best)
        left = left[box_ious(boxes[[best]], boxes[left])[0] <= max_iou]
    return np.array(kept, np.int64)
