"""Losses of overlapping areas: Dice, generalised Dice and Tversky.

Each is computed per image, so that it needs no sums over replicas. They take:

  logits: float32 [batch, height, width, classes].
  class_ids: uint8 [batch, height, width], class ids or IGNORE.

and return float32 [], from 0 to batch; an image whose pixels are all ignored adds 0.
"""

import tensorflow as tf

from petseg.losses.base import Loss
from petseg.losses.planes import class_planes, truth_planes, valid_plane

_SMOOTHING_PIXELS = 1.0
_FALSE_POSITIVE_WEIGHT, _FALSE_NEGATIVE_WEIGHT = 0.3, 0.7


def dice_loss_sum(logits: tf.Tensor, class_ids: tf.Tensor) -> tf.Tensor:
    """One minus the soft Dice coefficient, averaged over classes, summed over images.

    Milletari et al. 2016, "V-Net", with probabilities that are not squared.
    """
    overlap, predicted, true = _areas(logits, class_ids)
    dice = (2 * overlap + _SMOOTHING_PIXELS) / (predicted + true + _SMOOTHING_PIXELS)
    return tf.reduce_sum(1 - tf.reduce_mean(dice, axis=0))


def generalised_dice_loss_sum(logits: tf.Tensor, class_ids: tf.Tensor) -> tf.Tensor:
    """One minus the generalised Dice coefficient, summed over images.

    A class weighs the inverse square of its area in the image, and nothing where it is absent.
    Sudre et al. 2017, "Generalised Dice overlap as a deep learning loss function".
    """
    overlap, predicted, true = _areas(logits, class_ids)
    weights = tf.math.divide_no_nan(tf.ones_like(true), tf.square(true))
    total = tf.reduce_sum(weights * (predicted + true), 0)
    dice = tf.math.divide_no_nan(2 * tf.reduce_sum(weights * overlap, 0), total)
    return tf.reduce_sum(tf.where(total > 0, 1 - dice, tf.zeros_like(dice)))


def tversky_loss_sum(logits: tf.Tensor, class_ids: tf.Tensor) -> tf.Tensor:
    """One minus the Tversky index, averaged over classes, summed over images.

    Like Dice, but a false negative weighs 0.7 and a false positive 0.3. Salehi et al. 2017,
    "Tversky loss function for image segmentation".
    """
    overlap, predicted, true = _areas(logits, class_ids)
    wrong = _FALSE_POSITIVE_WEIGHT * (predicted - overlap) + _FALSE_NEGATIVE_WEIGHT * (
        true - overlap
    )
    index = (overlap + _SMOOTHING_PIXELS) / (overlap + wrong + _SMOOTHING_PIXELS)
    return tf.reduce_sum(1 - tf.reduce_mean(index, axis=0))


def _areas(logits: tf.Tensor, class_ids: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Areas in valid pixels, each [classes, batch].

    Returns:
      The probability of each class summed over its true pixels; its probability summed over
      all pixels; the number of its true pixels.
    """
    _, exponentials = class_planes(logits)
    truth = truth_planes(class_ids, logits)
    scales = valid_plane(class_ids, logits.dtype) / tf.reduce_sum(exponentials, 0)
    probabilities = exponentials * scales
    return tuple(
        tf.reduce_sum(planes, axis=[2, 3])
        for planes in (probabilities * truth, probabilities, truth)
    )


DICE = Loss(dice_loss_sum, "image")
GENERALISED_DICE = Loss(generalised_dice_loss_sum, "image")
TVERSKY = Loss(tversky_loss_sum, "image")
