"""The contract of one example of a feature cache: how it is written and read.

A tf.train.Example whose values are plain bytes, so that reading is copying: the pools as
modeling/features.py encodes them, and the raw mask at the size of the images that went in.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from petseg.data import record
from petseg.data.label_map import IGNORE
from petseg.input_pipeline.class_ids import to_class_ids
from petseg.models.features import pool_name, scale_name

_MASK = "mask"
_SIDES = "mask/sides"


@dataclasses.dataclass(frozen=True)
class Layout:
    """What every record of a cache holds.

    Attributes:
      image_size: height and width of the images that went in, and of the masks, in pixels.
      pools: block -> height, width and channels of its pool.
      stored_as: 'uint8' or 'float16'; see modeling.features.encode.
    """

    image_size: int
    pools: Mapping[int, tuple[int, int, int]]
    stored_as: str

    @property
    def record_bytes(self) -> int:
        """About how much a record takes."""
        values = sum(math.prod(shape) for shape in self.pools.values())
        return values * tf.as_dtype(self.stored_as).size + self.image_size**2


def encode_record(
    name: bytes, mask: np.ndarray, sides: Sequence[int], encoded: Mapping[str, np.ndarray]
) -> bytes:
    """Serializes an example; the same arguments, the same bytes.

    Args:
      name: unique in its data set.
      mask: uint8 [size, size], raw labels.
      sides: rows and columns of the mask that show something; the rest fills it up.
      encoded: one example's rows of modeling.features.encode.
    """
    example = tf.train.Example()
    feature = example.features.feature
    feature[record.SOURCE_ID].bytes_list.value.append(name)
    feature[_MASK].bytes_list.value.append(mask.tobytes())
    feature[_SIDES].int64_list.value.extend(map(int, sides))
    for key, values in encoded.items():
        feature[key].bytes_list.value.append(values.tobytes())
    return example.SerializeToString(deterministic=True)


def parse_records(
    serialized: tf.Tensor, layout: Layout, blocks: Sequence[int], class_ids: np.ndarray
) -> dict[str, tf.Tensor]:
    """Reads some examples at once.

    Args:
      serialized: string [n].
      layout: of the cache.
      blocks: whose pools are wanted.
      class_ids: uint8 [256], raw mask value -> class id.

    Returns:
      A dict of tensors: `mask`, uint8 [n, size, size], class ids or IGNORE; and for each
      block what modeling.features.encode gave.
    """
    size, is_scaled = layout.image_size, layout.stored_as == "uint8"
    arrays = {pool_name(b): (tf.as_dtype(layout.stored_as), layout.pools[b]) for b in blocks}
    if is_scaled:
        arrays |= {scale_name(b): (tf.float32, layout.pools[b][2:]) for b in blocks}
    texts = {key: tf.io.FixedLenFeature([], tf.string) for key in (*arrays, _MASK)}
    fields = tf.io.parse_example(
        serialized, {**texts, _SIDES: tf.io.FixedLenFeature([2], tf.int64)}
    )
    found = {
        key: tf.reshape(tf.io.decode_raw(fields[key], dtype), [-1, *shape])
        for key, (dtype, shape) in arrays.items()
    }
    raw = tf.reshape(tf.io.decode_raw(fields[_MASK], tf.uint8), [-1, size, size])
    return {**found, "mask": _ignore_rest(to_class_ids(raw, class_ids), fields[_SIDES])}


def _ignore_rest(masks: tf.Tensor, sides: tf.Tensor) -> tf.Tensor:
    """IGNORE for what fills masks up, below and to the right of their sides."""
    places = tf.range(masks.shape[1], dtype=tf.int64)
    rows, columns = places < sides[:, :1], places < sides[:, 1:]
    is_shown = rows[:, :, None] & columns[:, None, :]
    return tf.where(is_shown, masks, tf.constant(IGNORE, tf.uint8))
