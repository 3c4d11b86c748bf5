"""Prediction of a large image in overlapping windows."""

import itertools
from collections.abc import Callable

import numpy as np
import tensorflow as tf


def predict_windows(
    forward: Callable[[tf.Tensor], tf.Tensor], image: np.ndarray, size_px: int, batch_size: int
) -> tf.Tensor:
    """Averages the predictions of windows that cover an image.

    A pixel near the centre of a window weighs more than one near its edge.

    Args:
      forward: uint8 [windows, size_px, size_px, 3] -> float32 logits [windows, size_px,
        size_px, classes].
      image: uint8 [height, width, 3], RGB; padded with 0 below and to the right where a side
        is smaller than a window.
      size_px: height and width of a window.
      batch_size: number of windows per call of `forward`.

    Returns:
      float32 [height, width, classes], logarithms of the average probabilities.
    """
    height, width = image.shape[:2]
    padding = [(0, max(size_px - side, 0)) for side in (height, width)]
    padded = np.pad(image, [*padding, (0, 0)])
    corners = list(
        itertools.product(*(window_starts(side_px, size_px) for side_px in padded.shape[:2]))
    )
    ramp = np.minimum(np.arange(1, size_px + 1), np.arange(size_px, 0, -1)).astype(np.float32)
    weight = np.outer(ramp, ramp)[..., None]
    total, weights = None, np.zeros((*padded.shape[:2], 1), np.float32)
    for start in range(0, len(corners), batch_size):
        group = corners[start : start + batch_size]
        windows = np.stack([padded[y : y + size_px, x : x + size_px] for y, x in group])
        probabilities = tf.nn.softmax(forward(tf.constant(windows))).numpy()
        if total is None:
            total = np.zeros((*padded.shape[:2], probabilities.shape[-1]), np.float32)
        for (y, x), of_window in zip(group, probabilities, strict=True):
            total[y : y + size_px, x : x + size_px] += weight * of_window
            weights[y : y + size_px, x : x + size_px] += weight
    mean = (total / weights)[:height, :width]
    return tf.math.log(tf.maximum(mean, np.finfo(np.float32).tiny))


def window_starts(side_px: int, size_px: int) -> list[int]:
    """First pixel of each window along a side: evenly spaced, at most half a window apart."""
    count = -(-(side_px - size_px) // (size_px // 2)) + 1
    return np.linspace(0, side_px - size_px, count).round().astype(int).tolist()
