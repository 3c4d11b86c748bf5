"""Focal loss."""

import tensorflow as tf

from petseg.losses.base import Loss
from petseg.losses.planes import class_planes, truth_planes, valid_plane


def focal_loss_sum(logits: tf.Tensor, class_ids: tf.Tensor) -> tf.Tensor:
    """Cross-entropy times (1 - probability of the true class)^2, summed over valid pixels.

    Lin et al. 2017, "Focal Loss for Dense Object Detection", with gamma 2.

    Args:
      logits: float32 [batch, height, width, classes].
      class_ids: uint8 [batch, height, width], class ids or IGNORE.

    Returns:
      float32 [], in nats; 0 if every pixel is ignored.
    """
    shifted, exponentials = class_planes(logits)
    truth, sums = truth_planes(class_ids, logits), tf.reduce_sum(exponentials, 0)
    valid = valid_plane(class_ids, logits.dtype)
    uncertainty = valid - tf.reduce_sum(truth * exponentials, 0) / sums
    entropy = tf.math.log(sums) * valid - tf.reduce_sum(shifted * truth, 0)
    return tf.reduce_sum(tf.square(uncertainty) * entropy)


FOCAL = Loss(focal_loss_sum, "pixel")
