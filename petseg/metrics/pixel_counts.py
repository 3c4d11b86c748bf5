"""Integer counts of pixels, each pixel counted once: every metric comes from them."""

import tensorflow as tf

from petseg.data.label_map import IGNORE


def count_pairs(class_ids: tf.Tensor, predicted: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Counts the pixels of each image by (true class, predicted class).

    Args:
      class_ids: uint8 [images, ...], class ids or IGNORE (which is not counted).
      predicted: integer, same shape, class ids.
      num_classes: number of classes.

    Returns:
      int64 [images, classes, classes]; rows are the truth.
    """
    count = tf.shape(class_ids)[0]
    truth = tf.cast(tf.reshape(class_ids, [count, -1]), tf.int32)
    pairs = truth * num_classes + tf.cast(tf.reshape(predicted, [count, -1]), tf.int32)
    # An ignored pixel falls into one bin past the last of its image, which is then cut off.
    cells = num_classes * num_classes
    bins = count * (cells + 1)
    pairs = tf.where(truth == IGNORE, cells, pairs) + tf.range(count)[:, None] * (cells + 1)
    counts = tf.math.bincount(tf.reshape(pairs, [-1]), minlength=bins, maxlength=bins)
    counts = tf.reshape(counts, [count, cells + 1])[:, :cells]
    return tf.cast(tf.reshape(counts, [count, num_classes, num_classes]), tf.int64)


def areas(counts: tf.Tensor) -> tf.Tensor:
    """Pixels of each class in each image: predicted rightly, true, predicted.

    Args:
      counts: int64 [images, classes, classes], from count_pairs.

    Returns:
      int64 [images, classes, 3], as metrics.confusion.areas.
    """
    right = tf.linalg.diag_part(counts)
    return tf.stack([right, tf.reduce_sum(counts, -1), tf.reduce_sum(counts, -2)], axis=-1)
