"""Lovasz-Softmax loss."""

import tensorflow as tf

from petseg.losses.base import Loss
from petseg.losses.planes import class_planes, truth_planes, valid_plane


def lovasz_softmax_loss_sum(logits: tf.Tensor, class_ids: tf.Tensor) -> tf.Tensor:
    """The Lovasz extension of one minus IoU of each image, summed over images.

    Averaged over the classes that are present in the image. It sorts the pixels of each class.
    Berman et al. 2018, "The Lovasz-Softmax loss".

    Args:
      logits: float32 [batch, height, width, classes].
      class_ids: uint8 [batch, height, width], class ids or IGNORE.

    Returns:
      float32 [], from 0 to batch; an image whose pixels are all ignored adds 0.
    """
    _, exponentials = class_planes(logits)
    truth, valid = truth_planes(class_ids, logits), valid_plane(class_ids, logits.dtype)
    errors = tf.abs(truth - exponentials / tf.reduce_sum(exponentials, 0)) * valid

    shape = tf.shape(truth)
    counted = tf.broadcast_to(valid, shape)
    errors, truth, counted = (
        tf.reshape(planes, [shape[0], shape[1], shape[2] * shape[3]])
        for planes in (errors, truth, counted)
    )
    # Ignored pixels have no error and add to no area: their order does not matter.
    order = tf.argsort(errors, direction="DESCENDING")
    errors, truth, counted = (
        tf.gather(planes, order, batch_dims=2) for planes in (errors, truth, counted)
    )
    area = tf.reduce_sum(truth, -1, keepdims=True)
    intersection = area - tf.cumsum(truth, -1)
    union = area + tf.cumsum(counted - truth, -1)
    set_loss = 1 - tf.math.divide_no_nan(intersection, union)
    previous = tf.concat([tf.zeros_like(area), set_loss[..., :-1]], -1)
    class_loss = tf.reduce_sum(errors * tf.stop_gradient(set_loss - previous), -1)
    present = tf.cast(area[..., 0] > 0, logits.dtype)
    image_loss = tf.reduce_sum(class_loss * present, 0)
    return tf.reduce_sum(tf.math.divide_no_nan(image_loss, tf.reduce_sum(present, 0)))


LOVASZ_SOFTMAX = Loss(lovasz_softmax_loss_sum, "image", is_faster_fused=False)
