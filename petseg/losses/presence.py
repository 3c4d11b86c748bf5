"""Whether an image holds each class."""

import tensorflow as tf

from petseg.data.label_map import IGNORE
from petseg.losses.base import Loss
from petseg.losses.planes import truth_planes


def classes_present(class_ids: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Which classes have a pixel in each image.

    Args:
      class_ids: uint8 [batch, height, width], class ids or IGNORE.
      num_classes: Number of classes.

    Returns:
      float32 [batch, classes], 1 or 0.
    """
    like = tf.zeros([1, num_classes])
    return tf.transpose(tf.reduce_max(truth_planes(class_ids, like), [2, 3]))


def presence_sum(image_logits: tf.Tensor, class_ids: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy of each class being in the image, averaged over classes.

    Args:
      image_logits: float32 [batch, classes], of the presence head.
      class_ids: uint8 [batch, height, width], class ids or IGNORE. A class is there if a pixel
        has it.

    Returns:
      float32 [], in nats, summed over images; one whose pixels are all ignored adds 0.
    """
    present = classes_present(class_ids, image_logits.shape[-1])
    losses = tf.nn.sigmoid_cross_entropy_with_logits(present, image_logits)
    is_known = tf.cast(tf.reduce_any(class_ids != IGNORE, [1, 2]), tf.float32)
    return tf.reduce_sum(tf.reduce_mean(losses, -1) * is_known)


PRESENCE = Loss(presence_sum, "image", reads="presence")
