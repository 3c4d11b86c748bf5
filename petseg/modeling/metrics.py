"""Every figure comes from one integer confusion matrix over every pixel once."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from petseg.label_map import IGNORE


def count_pairs(class_ids: tf.Tensor, predicted: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Counts pixels by (true class, predicted class).

    Args:
      class_ids: uint8, any shape, class ids or IGNORE (which counts nowhere).
      predicted: integer, same shape, class ids.
      num_classes: number of classes.

    Returns:
      int64 [classes, classes]; rows are the truth.
    """
    truth = tf.cast(tf.reshape(class_ids, [-1]), tf.int32)
    pairs = truth * num_classes + tf.cast(tf.reshape(predicted, [-1]), tf.int32)
    # An ignored pixel goes to one bin past the last, which is then cut off.
    cells = num_classes * num_classes
    pairs = tf.where(truth == IGNORE, cells, pairs)
    counts = tf.math.bincount(pairs, minlength=cells + 1, maxlength=cells + 1)
    return tf.cast(tf.reshape(counts[:cells], [num_classes, num_classes]), tf.int64)


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a confusion matrix says.

    Attributes:
      iou: intersection over union per class; NaN where a class is absent.
      dice: Dice coefficient per class; NaN where a class is absent.
      mean_iou: over the classes that are present; NaN if none is.
      pixel_accuracy: share of counted pixels that are right; NaN if none was counted.
      pixels: how many pixels were counted.
      absent: indices of classes that neither the truth nor a prediction holds.
    """

    iou: np.ndarray
    dice: np.ndarray
    mean_iou: float
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
        accuracy = right.sum() / confusion.sum()
    present = union > 0
    return Scores(
        iou=iou,
        dice=dice,
        mean_iou=float(iou[present].mean()) if present.any() else float("nan"),
        pixel_accuracy=float(accuracy),
        pixels=int(confusion.sum()),
        absent=tuple(int(i) for i in np.flatnonzero(~present)),
    )


def by_name(values: np.ndarray, names: Sequence[str]) -> dict[str, float | None]:
    """Class name -> value; None stands for a class that is absent."""
    return {n: None if np.isnan(v) else float(v) for n, v in zip(names, values, strict=True)}
