"""Losses whose value does not depend on how a batch is spread over replicas."""

import numpy as np
import tensorflow as tf

from petseg.label_map import IGNORE

_DICE_SMOOTHING_PIXELS = 1.0


def cross_entropy_sum(logits: tf.Tensor, class_ids: tf.Tensor) -> tf.Tensor:
    """The cross-entropy summed over all pixels that are not ignored.

    Divide by the number of such pixels in the *global* batch: a mean per replica
    would weigh a pixel by how many its replica happens to hold.

    Args:
      logits: float32 [batch, height, width, classes].
      class_ids: uint8 [batch, height, width], class ids or IGNORE.

    Returns:
      float32 [], in nats; 0 if every pixel is ignored.
    """
    shifted, exponentials = _class_planes(logits)
    # An ignored pixel is of no class, so its plane is 0 in `truth` already.
    log_sums = tf.math.log(tf.reduce_sum(exponentials, 0)) * _valid(class_ids, logits.dtype)
    return tf.reduce_sum(log_sums) - tf.reduce_sum(shifted * _truth_planes(class_ids, logits))


def dice_loss_sum(logits: tf.Tensor, class_ids: tf.Tensor) -> tf.Tensor:
    """One minus soft Dice of each image, averaged over classes, summed over images.

    Taken per image, so that it needs no sums over replicas (Milletari et al. 2016,
    with probabilities unsquared). Divide by the number of images in the global batch.

    Args:
      logits: float32 [batch, height, width, classes].
      class_ids: uint8 [batch, height, width], class ids or IGNORE.

    Returns:
      float32 [], from 0 to batch; an image whose pixels are all ignored adds 0.
    """
    _, exponentials = _class_planes(logits)
    truth = _truth_planes(class_ids, logits)
    scales = _valid(class_ids, logits.dtype) / tf.reduce_sum(exponentials, 0)
    probabilities = exponentials * scales
    overlap = tf.reduce_sum(probabilities * truth, axis=[2, 3])
    total = tf.reduce_sum(probabilities, axis=[2, 3]) + tf.reduce_sum(truth, axis=[2, 3])
    dice = (2 * overlap + _DICE_SMOOTHING_PIXELS) / (total + _DICE_SMOOTHING_PIXELS)
    return tf.reduce_sum(1 - tf.reduce_mean(dice, axis=0))


def count_valid_pixels(class_ids: tf.Tensor) -> tf.Tensor:
    """How many pixels are not ignored: float32 [], exact to 2^24 of them."""
    return tf.cast(tf.math.count_nonzero(class_ids != IGNORE), tf.float32)


def _class_planes(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Logits less their largest, and their exponentials: [classes, batch, height, width].

    With few classes, arithmetic over planes takes a quarter of the time that it takes over
    a last axis of 2 or 3. Losses that both ask for them share them: the graph optimizer
    computes equal nodes once.
    """
    planes = tf.transpose(logits, [3, 0, 1, 2])
    shifted = planes - tf.stop_gradient(tf.reduce_max(planes, 0))
    return shifted, tf.exp(shifted)


def _truth_planes(class_ids: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """1 where a pixel is of a class: [classes, batch, height, width] of the logits' type."""
    classes = tf.constant(np.arange(logits.shape[-1]), class_ids.dtype)
    return tf.cast(class_ids[None] == classes[:, None, None, None], logits.dtype)


def _valid(class_ids: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    return tf.cast(class_ids != IGNORE, dtype)
