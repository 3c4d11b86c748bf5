"""Smoothing of probabilities before the best class is taken.

Probabilities, not masks: opening or closing masks would need an order of the classes, and would
not see how sure the model is. So the mask stays the best class of the probabilities.
"""

import math

import numpy as np

_REACH_SIGMAS = 4  # where the Gaussian is cut off


def reach_px(sigma_px: float) -> int:
    """How far away a pixel counts when probabilities are smoothed, in rows and columns."""
    return math.ceil(_REACH_SIGMAS * sigma_px)


def smooth(probabilities: np.ndarray, sigma_px: float) -> np.ndarray:
    """Averages probabilities with the weights of a Gaussian; none is outside of the image.

    Args:
      probabilities: float32 [height, width, classes], which sum to 1 over the classes.
      sigma_px: standard deviation of the Gaussian, in pixels.

    Returns:
      The same shape, type and sum. A row, or a column, depends on those up to reach_px away; its
      values are the same, to the last bit, whatever further ones are given.
    """
    if not sigma_px:
        return probabilities
    offsets = np.arange(reach_px(sigma_px) + 1)
    weights = np.exp(-0.5 * (offsets / sigma_px) ** 2)
    for axis in (0, 1):
        inside = _sum_along(np.ones((*probabilities.shape[:2], 1), np.float32), weights, axis)
        probabilities = _sum_along(probabilities, weights, axis) / inside
    return probabilities


def _sum_along(values: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """Sums neighbours up to some pixels before and behind, times the weight of their distance."""
    weights = weights.astype(np.float32)
    size, reach = values.shape[axis], len(weights) - 1
    padded = np.pad(values, [(reach, reach) if a == axis else (0, 0) for a in range(3)])

    def shifted(pixels: int) -> np.ndarray:
        part = slice(reach + pixels, reach + pixels + size)
        return padded[part] if axis == 0 else padded[:, part]

    total = weights[0] * values
    both = np.empty_like(values)
    for distance, weight in enumerate(weights[1:], 1):
        np.add(shifted(-distance), shifted(distance), out=both)
        both *= weight
        total += both
    return total
