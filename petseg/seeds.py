"""Every use of randomness in training has a stream of its own, keyed by the run's seed."""

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


def fold_seed(seed: int, stream: Stream, place: tf.Tensor) -> tf.Tensor:
    """An int64 [2] seed of its own for each run, stream and place in it (an integer [])."""
    base, place = tf.constant([seed, stream], tf.int64), tf.cast(place, tf.int64)
    return tf.random.fold_in(base, place, alg="philox")
