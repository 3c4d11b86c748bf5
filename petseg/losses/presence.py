"""Whether an image holds each class."""

import tensorflow as tf

from petseg.data.label_map import IGNORE
from petseg.losses.base import Loss
from petseg.losses.planes import truth_planes


def labels_of_masks(class_ids: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Whether each class has a pixel in each image.

    Args:
      class_ids: uint8 [batch, height, width], class ids or IGNORE.
      num_classes: Number of classes.

    Returns:
      uint8 [batch, classes], 1 or 0, and IGNORE for an image whose pixels are all ignored.
    """
    like = tf.zeros([1, num_classes])
    present = tf.transpose(tf.reduce_max(truth_planes(class_ids, like), [2, 3]))
    is_known = tf.reduce_any(class_ids != IGNORE, [1, 2])
    ignored = tf.constant(IGNORE, tf.uint8)
    return tf.where(is_known[:, None], tf.cast(present, tf.uint8), ignored)


def presence_sum(image_logits: tf.Tensor, image_labels: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy of each class being in the image, averaged over the known classes.

    Args:
      image_logits: float32 [batch, classes], of the presence head.
      image_labels: uint8 [batch, classes], 1, 0 or IGNORE.

    Returns:
      float32 [], in nats, summed over images; one without a known class adds 0.
    """
    is_known = tf.cast(image_labels != IGNORE, tf.float32)
    labels = tf.cast(image_labels, tf.float32) * is_known
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, image_logits) * is_known
    known = tf.reduce_sum(is_known, -1)
    return tf.reduce_sum(tf.reduce_sum(losses, -1) / tf.maximum(known, 1.0))


PRESENCE = Loss(presence_sum, "image", reads="presence")
