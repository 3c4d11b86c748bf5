"""Maximum unpooling (Zeiler and Fergus 2014): features go back to where the maxima were.

By comparisons rather than by indices of the pooling, so that every format of an export
computes the same, and features that were stored before serve as well.
"""

import keras

_POOL = 2


def unpool(x: keras.KerasTensor, unpooled: keras.KerasTensor) -> keras.KerasTensor:
    """Puts each feature where its window's maximum lay, and 0 elsewhere.

    Args:
      x: Float [batch, height / 2, width / 2, channels].
      unpooled: What was pooled in windows of 2 x 2, float [batch, height, width, channels]. Of
        several maxima the first counts, row by row. It gets no gradient.

    Returns:
      Of x's dtype [batch, height, width, channels].
    """
    height, width, channels = unpooled.shape[1:]
    corners = [
        unpooled[:, row::_POOL, column::_POOL] for row in range(_POOL) for column in range(_POOL)
    ]
    placed = [
        x * keras.ops.cast(_is_first_maximum(corners, index), x.dtype)
        for index in range(len(corners))
    ]
    rows = [
        keras.ops.reshape(
            keras.ops.stack(placed[_POOL * row : _POOL * (row + 1)], axis=3),
            (-1, height // _POOL, width, channels),
        )
        for row in range(_POOL)
    ]
    return keras.ops.reshape(keras.ops.stack(rows, axis=2), (-1, height, width, channels))


def _is_first_maximum(corners: list[keras.KerasTensor], index: int) -> keras.KerasTensor:
    """Whether a corner is above all that come before it, and not below those that follow."""
    here, is_first = corners[index], None
    for other, corner in enumerate(corners):
        if other == index:
            continue
        holds = here > corner if other < index else here >= corner
        is_first = holds if is_first is None else keras.ops.logical_and(is_first, holds)
    return is_first
