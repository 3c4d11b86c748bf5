"""Losses whose value does not depend on how a batch is spread over replicas."""

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
    valid = class_ids != IGNORE
    labels = tf.where(valid, tf.cast(class_ids, tf.int32), 0)
    per_pixel = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_sum(tf.where(valid, per_pixel, 0.0))


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
    valid = tf.cast(class_ids != IGNORE, logits.dtype)[..., None]
    truth = tf.one_hot(tf.cast(class_ids, tf.int32), logits.shape[-1], dtype=logits.dtype)
    probabilities = tf.nn.softmax(logits) * valid
    overlap = tf.reduce_sum(probabilities * truth, axis=[1, 2])
    total = tf.reduce_sum(probabilities + truth, axis=[1, 2])
    dice = (2 * overlap + _DICE_SMOOTHING_PIXELS) / (total + _DICE_SMOOTHING_PIXELS)
    return tf.reduce_sum(1 - tf.reduce_mean(dice, axis=-1))


def count_valid_pixels(class_ids: tf.Tensor) -> tf.Tensor:
    """How many pixels are not ignored: float32 [], exact to 2^24 of them."""
    return tf.cast(tf.math.count_nonzero(class_ids != IGNORE), tf.float32)
