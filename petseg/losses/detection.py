"""The class of an image and the box around its object, for a head that predicts both.

Source: Hu, Dollar, He, Darrell and Girshick 2018, "Learning to segment every thing", whose mask
weights follow from those of a detector (models.class_masks).
"""

import tensorflow as tf

from petseg.losses.base import Loss, Outputs, Truth

# Beyond an error of this share of the image's side the loss of a box grows linearly.
_HUBER_DELTA = 0.1


def image_class_sum(outputs: Outputs, truth: Truth) -> tf.Tensor:
    """Cross-entropy of the image's class.

    Returns:
      float32 [], in nats, summed over the images whose class is known.
    """
    is_known = truth.image_class >= 0
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.maximum(truth.image_class, 0), outputs.image_class
    )
    return tf.reduce_sum(tf.where(is_known, losses, 0.0))


def box_sum(outputs: Outputs, truth: Truth) -> tf.Tensor:
    """Huber loss of the box of the image's own class, divided by the error where it turns linear.

    Returns:
      float32 [], summed over the four sides and the images that have a class and an object.
    """
    is_known = (truth.image_class >= 0) & (truth.box[:, 2] > truth.box[:, 0])
    chosen = tf.one_hot(truth.image_class, outputs.boxes.shape[1])
    boxes = tf.reduce_sum(outputs.boxes * chosen[:, :, None], 1)
    error = tf.abs(boxes - truth.box)
    inner = tf.minimum(error, _HUBER_DELTA)
    losses = inner * (error - 0.5 * inner) / _HUBER_DELTA
    return tf.reduce_sum(tf.where(is_known, tf.reduce_sum(losses, 1), 0.0))


IMAGE_CLASS = Loss(image_class_sum, "image", reads="detection")
BOX = Loss(box_sum, "image", reads="detection")
