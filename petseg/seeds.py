"""Every use of randomness in training has its own stream, keyed by the run's seed."""

import enum

import tensorflow as tf


class Stream(enum.IntEnum):
    """What is drawn. A number, once used, keeps its meaning: runs are repeated by it."""

    SHARD_ORDER = 1
    RECORD_ORDER = 2
    WINDOW = 3
    DROPOUT = 4
    FLIP = 5
    WARP = 6
    CUTOUT = 7
    BLUR = 8
    COLOUR = 9
    CUTMIX = 10
    VIEW = 11
    FIXED_WINDOW = 12
    FIXED_FLIP = 13
    PATCH = 14
    FIXED_PATCH = 15


def fold_seed(seed: int, stream: Stream, index: tf.Tensor) -> tf.Tensor:
    """An int64 [2] seed for one run, one stream and one index in it (an integer [])."""
    base, index = tf.constant([seed, stream], tf.int64), tf.cast(index, tf.int64)
    return tf.random.fold_in(base, index, alg="philox")
