"""Maximum unpooling (Zeiler and Fergus 2014): features go back to where the maxima were.

By comparisons rather than by indices of the pooling, so that every format of an export
computes the same, and features that were stored before serve as well.
"""

import math

import keras

_POOL = 2


def unpool(
    x: keras.KerasTensor, unpooled: keras.KerasTensor, scale: float = 1.0
) -> keras.KerasTensor:
    """Puts each feature where its window's maximum lay, and 0 elsewhere.

    Args:
      x: Float [batch, height / 2, width / 2, channels].
      unpooled: What was pooled in windows of 2 x 2, float [batch, height, width, channels]. Of
        several maxima the first counts, row by row. It gets no gradient.
      scale: Root mean square of `unpooled`; its values are compared at about that of 1.

    Returns:
      Of x's dtype [batch, height, width, channels].
    """
    height, width, channels = unpooled.shape[1:]
    # LiteRT's int8 comparisons are right for steps below 1 alone. A power of two rounds nothing.
    unpooled = unpooled * 2.0 ** -round(math.log2(scale))
    pairs = keras.ops.reshape(unpooled, (-1, height, width // _POOL, _POOL, channels))
    left, right = pairs[:, :, :, 0], pairs[:, :, :, 1]
    is_left = left >= right
    maxima = keras.ops.reshape(
        keras.ops.maximum(left, right),
        (-1, height // _POOL, _POOL, width // _POOL, channels),
    )
    is_top = maxima[:, :, 0] >= maxima[:, :, 1]
    in_rows = _place(x, is_top, axis=2)
    in_rows = keras.ops.reshape(in_rows, (-1, height, width // _POOL, channels))
    placed = _place(in_rows, is_left, axis=3)
    return keras.ops.reshape(placed, (-1, height, width, channels))


def _place(x: keras.KerasTensor, is_first: keras.KerasTensor, axis: int) -> keras.KerasTensor:
    """Stacks two copies: the first where is_first, the second elsewhere, otherwise 0."""
    zero = keras.ops.zeros_like(x)
    first, second = keras.ops.where(is_first, x, zero), keras.ops.where(is_first, zero, x)
    return keras.ops.stack([first, second], axis=axis)
