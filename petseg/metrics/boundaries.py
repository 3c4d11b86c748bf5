"""Boundaries between classes: bands around them, and boundary IoU."""

import itertools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from petseg.data.label_map import IGNORE, UNKNOWN

# The width of a boundary as a share of the image's diagonal, after Cheng et al. (2021).
_BOUNDARY_SHARE = 0.02


def border_bands(class_ids: tf.Tensor, radii_px: Sequence[int]) -> list[tf.Tensor]:
    """Finds the pixels with another class within a radius; ignored pixels are another class.

    Args:
      class_ids: uint8 [height, width], class ids or IGNORE.
      radii_px: distances in rows and columns (Chebyshev's), ascending, at least 1.

    Returns:
      One bool [height, width] per radius.
    """
    planes, bands = _planes(class_ids), []
    for before_px, radius_px in itertools.pairwise((0, *radii_px)):
        planes = _spread(planes, radius_px - before_px)
        bands.append(_differs(planes))
    return bands


def count_boundaries(truth: tf.Tensor, predicted: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Counts the pixels of both masks' boundaries by class, for boundary IoU.

    The boundary of a mask is made of its pixels that lie near pixels of another class, of no
    class, or outside the image. Near means within 2% of the image's diagonal, in rows and
    columns, rounded, at least 1. A pixel that the truth ignores has no class in either mask.
    Cheng et al. 2021, "Boundary IoU".

    Args:
      truth: uint8 [height, width], class ids or IGNORE.
      predicted: uint8 [height, width], class ids.
      num_classes: number of classes.

    Returns:
      int64 [classes, 2]: pixels in the boundaries of both masks, and of at least one of them.
    """
    sides = tf.cast(tf.shape(truth), tf.float32)
    width_px = tf.maximum(tf.cast(tf.round(_BOUNDARY_SHARE * tf.norm(sides)), tf.int32), 1)
    predicted = tf.where(truth == IGNORE, truth, predicted)

    def boundary(class_ids: tf.Tensor) -> tf.Tensor:
        """The class of each pixel of a boundary, IGNORE elsewhere."""
        padded = tf.pad(
            class_ids,
            [[width_px, width_px], [width_px, width_px]],
            constant_values=tf.constant(UNKNOWN, tf.uint8),
        )
        inner = _differs(_spread(_planes(padded), width_px))[width_px:-width_px, width_px:-width_px]
        return tf.where(inner, class_ids, tf.constant(IGNORE, tf.uint8))

    true_boundary, predicted_boundary = boundary(truth), boundary(predicted)
    total = _count(true_boundary, num_classes) + _count(predicted_boundary, num_classes)
    is_equal = true_boundary == predicted_boundary
    shared = tf.where(is_equal, true_boundary, tf.constant(IGNORE, tf.uint8))
    both = _count(shared, num_classes)
    return tf.stack([both, total - both], axis=-1)


def boundary_iou(counts: np.ndarray) -> np.ndarray:
    """Boundary IoU from count_boundaries: float64 [classes], NaN for a class without one."""
    with np.errstate(invalid="ignore"):
        return counts[:, 0] / counts[:, 1]


def _count(class_ids: tf.Tensor, num_classes: int) -> tf.Tensor:
    flat = tf.cast(tf.reshape(class_ids, [-1]), tf.int32)
    return tf.cast(
        tf.math.bincount(tf.minimum(flat, num_classes), minlength=num_classes + 1)[:num_classes],
        tf.int64,
    )


def _planes(values: tf.Tensor) -> tf.Tensor:
    """The maximum and the negated minimum over a square of one pixel: [height, width, 2]."""
    values = tf.cast(values, tf.float32)
    return tf.stack([values, -values], axis=-1)


def _spread(planes: tf.Tensor, radius_px: tf.Tensor | int) -> tf.Tensor:
    """Widens the squares of such planes by a radius."""
    for axis in (0, 1):
        planes = _running_maximum(planes, radius_px, axis)
    return planes


def _differs(planes: tf.Tensor) -> tf.Tensor:
    """Whether a square has two different values."""
    return planes[..., 0] != -planes[..., 1]


def _running_maximum(planes: tf.Tensor, radius_px: tf.Tensor | int, axis: int) -> tf.Tensor:
    """The maximum over 2 radius + 1 neighbours along an axis, in about log2 of them steps."""
    length = 2 * radius_px + 1
    low = tf.constant(-np.inf, tf.float32)
    padding = [[radius_px, radius_px] if a == axis else [0, 0] for a in range(3)]
    padded = tf.pad(planes, padding, constant_values=low)

    def without_last(tensor: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        return (
            tensor[: tf.shape(tensor)[0] - count]
            if axis == 0
            else tensor[:, : tf.shape(tensor)[1] - count]
        )

    def without_first(tensor: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        return tensor[count:] if axis == 0 else tensor[:, count:]

    def widen(reach: tf.Tensor, running: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Doubles the reach, or brings it up to the length."""
        step = tf.minimum(reach, length - reach)
        wider = tf.maximum(without_last(running, step), without_first(running, step))
        return reach + step, wider

    _, running = tf.while_loop(
        lambda reach, _: reach < length,
        widen,
        (tf.constant(1), padded),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None, 2])),
    )
    return running
