"""Every figure comes from integer counts of pixels, every pixel once."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from petseg.data.label_map import IGNORE


def count_pairs(class_ids: tf.Tensor, predicted: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Counts the pixels of each image by (true class, predicted class).

    Args:
      class_ids: uint8 [images, ...], class ids or IGNORE (which counts nowhere).
      predicted: integer, same shape, class ids.
      num_classes: number of classes.

    Returns:
      int64 [images, classes, classes]; rows are the truth.
    """
    count = tf.shape(class_ids)[0]
    truth = tf.cast(tf.reshape(class_ids, [count, -1]), tf.int32)
    pairs = truth * num_classes + tf.cast(tf.reshape(predicted, [count, -1]), tf.int32)
    # An ignored pixel goes to one bin past the last of its image, which is then cut off.
    cells = num_classes * num_classes
    bins = count * (cells + 1)
    pairs = tf.where(truth == IGNORE, cells, pairs) + tf.range(count)[:, None] * (cells + 1)
    counts = tf.math.bincount(tf.reshape(pairs, [-1]), minlength=bins, maxlength=bins)
    counts = tf.reshape(counts, [count, cells + 1])[:, :cells]
    return tf.cast(tf.reshape(counts, [count, num_classes, num_classes]), tf.int64)


def image_mean_iou(counts: tf.Tensor) -> tf.Tensor:
    """Mean IoU of each image over the classes that it, or its prediction, holds.

    Args:
      counts: int64 [images, classes, classes], of count_pairs.

    Returns:
      float32 [images]; NaN where no pixel counts.
    """
    right = tf.linalg.diag_part(counts)
    union = tf.reduce_sum(counts, 1) + tf.reduce_sum(counts, 2) - right
    iou = tf.math.divide_no_nan(tf.cast(right, tf.float32), tf.cast(union, tf.float32))
    present = tf.reduce_sum(tf.cast(union > 0, tf.float32), -1)
    return tf.reduce_sum(iou, -1) / present


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a confusion matrix says.

    A class is absent if neither the truth nor a prediction holds it: its figures are NaN, and
    means leave it out.

    Attributes:
      iou: intersection over union per class.
      dice: Dice coefficient per class.
      precision: share of the pixels given to a class that are of it; NaN if none was.
      recall: share of the pixels of a class that were given to it; NaN if it has none.
      mean_iou: over the classes that are present; NaN if none is.
      frequency_weighted_iou: IoU weighted by the classes' share of the true pixels.
      pixel_accuracy: share of counted pixels that are right; NaN if none was counted.
      pixels: how many pixels were counted.
      absent: indices of the absent classes.
    """

    iou: np.ndarray
    dice: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    mean_iou: float
    frequency_weighted_iou: float
    pixel_accuracy: float
    pixels: int
    absent: tuple[int, ...]


def score(confusion: np.ndarray) -> Scores:
    """Computes every figure from counts: int64 [classes, classes], rows the truth."""
    right = np.diag(confusion)
    truth, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    union = truth + predicted - right
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = right / union
        dice = 2 * right / (truth + predicted)
        precision, recall = right / predicted, right / truth
        accuracy = right.sum() / confusion.sum()
        weighted = np.where(truth > 0, truth * iou, 0.0).sum() / truth.sum()
    present = union > 0
    return Scores(
        iou=iou,
        dice=dice,
        precision=precision,
        recall=recall,
        mean_iou=float(iou[present].mean()) if present.any() else float("nan"),
        frequency_weighted_iou=float(weighted),
        pixel_accuracy=float(accuracy),
        pixels=int(confusion.sum()),
        absent=tuple(int(i) for i in np.flatnonzero(~present)),
    )


def by_name(values: np.ndarray, names: Sequence[str]) -> dict[str, float | None]:
    """Class name -> value; None stands for NaN, as where a class is absent."""
    return {n: None if np.isnan(v) else float(v) for n, v in zip(names, values, strict=True)}
