"""Pools as a file holds them: float16, or uint8 with a scale for each image's channels.

What a ReLU and a maximum give is never negative, and most of it is near 0: 256 steps up to
the largest value of each channel in each image are off by half a step at most.
"""

from collections.abc import Mapping

import tensorflow as tf

IMAGES = (0,)  # what is known where no pool is
_IMAGE = "image"
_STEPS = 255.0


def pool_name(block: int) -> str:
    """The key of a block's pool in a batch of features."""
    return f"pool{block}"


def scale_name(block: int) -> str:
    """The key of what a block's pool, as uint8, is to be multiplied with."""
    return f"scale{block}"


def encode(pools: Mapping[int, tf.Tensor], stored_as: str) -> dict[str, tf.Tensor]:
    """What a file holds of some pools.

    Args:
      pools: by block, float32 [batch, height, width, channels], at least 0.
      stored_as: 'uint8' or 'float16'.

    Returns:
      By pool_name uint8 or float16, of the pool's shape; with uint8 also by scale_name
      float32 [batch, channels].
    """
    found = {}
    for block, pool in pools.items():
        values = tf.cast(pool, tf.float32)
        if stored_as == "float16":
            found[pool_name(block)] = tf.saturate_cast(values, tf.float16)
            continue
        scale = tf.reduce_max(values, axis=[1, 2], keepdims=True) / _STEPS
        steps = tf.round(tf.math.divide_no_nan(values, scale))
        found[pool_name(block)] = tf.cast(tf.minimum(steps, _STEPS), tf.uint8)
        found[scale_name(block)] = scale[:, 0, 0]
    return found


def known_pools(batch: Mapping[str, tf.Tensor]) -> dict[int, tf.Tensor]:
    """What a batch shows of its examples, for SkipModel.pools.

    Args:
      batch: with `image`, uint8 [batch, size, size, 3], or what `encode` gave.

    Returns:
      The images under 0, or each pool under its block, float32.
    """
    if _IMAGE in batch:
        return {0: batch[_IMAGE]}
    found = {}
    for name, values in batch.items():
        if name.startswith("pool"):
            block = int(name.removeprefix("pool"))
            pool = tf.cast(values, tf.float32)
            scale = batch.get(scale_name(block))
            found[block] = pool if scale is None else pool * scale[:, None, None, :]
    return found


def known_blocks(tapped: tuple[int, ...], trained: str) -> tuple[int, ...]:
    """The blocks whose pools a stage can take from a file, from shallow to deep.

    Args:
      tapped: the blocks whose pools the head reads.
      trained: 'head', 'blockN' or 'all': what moves is computed anew.

    Returns:
      The blocks; IMAGES if the stage must see them.
    """
    if trained == "head":
        return tuple(sorted(tapped))
    first = 1 if trained == "all" else int(trained.removeprefix("block"))
    return tuple(sorted({first - 1, *(block for block in tapped if 0 < block < first)}))
