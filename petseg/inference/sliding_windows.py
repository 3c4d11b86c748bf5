"""Prediction of a large image in overlapping windows."""

import itertools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from petseg.image_size import ImageSize, sides_of


def predict_windows(
    forward: Callable[[tf.Tensor], tf.Tensor], image: np.ndarray, size: ImageSize, batch_size: int
) -> tf.Tensor:
    """Averages the predictions of windows that cover an image.

    A pixel near the centre of a window weighs more than one near its edge.

    Args:
      forward: uint8 [windows, *sides_of(size), 3] -> float32 logits [windows, *sides_of(size),
        classes].
      image: uint8 [height, width, 3], RGB; padded with 0 below and to the right where a side
        is smaller than a window.
      size: of a window, in pixels.
      batch_size: number of windows per call of `forward`.

    Returns:
      float32 [height, width, classes], logarithms of the average probabilities.
    """
    (height, width), (rows, columns) = image.shape[:2], sides_of(size)
    padded = np.pad(image, [(0, max(rows - height, 0)), (0, max(columns - width, 0)), (0, 0)])
    corners = list(
        itertools.product(
            window_starts(padded.shape[0], rows), window_starts(padded.shape[1], columns)
        )
    )
    weight = np.outer(_ramp(rows), _ramp(columns))[..., None]
    total, weights = None, np.zeros((*padded.shape[:2], 1), np.float32)
    for start in range(0, len(corners), batch_size):
        group = corners[start : start + batch_size]
        windows = np.stack([padded[y : y + rows, x : x + columns] for y, x in group])
        probabilities = tf.nn.softmax(forward(tf.constant(windows))).numpy()
        if total is None:
            total = np.zeros((*padded.shape[:2], probabilities.shape[-1]), np.float32)
        for (y, x), of_window in zip(group, probabilities, strict=True):
            total[y : y + rows, x : x + columns] += weight * of_window
            weights[y : y + rows, x : x + columns] += weight
    mean = (total / weights)[:height, :width]
    return tf.math.log(tf.maximum(mean, np.finfo(np.float32).tiny))


def _ramp(size_px: int) -> np.ndarray:
    """Weights along a side, which rise to its middle: float32 [size_px]."""
    return np.minimum(np.arange(1, size_px + 1), np.arange(size_px, 0, -1)).astype(np.float32)


def window_starts(side_px: int, size_px: int) -> list[int]:
    """First pixel of each window along a side: evenly spaced, at most half a window apart."""
    count = -(-(side_px - size_px) // (size_px // 2)) + 1
    return np.linspace(0, side_px - size_px, count).round().astype(int).tolist()
