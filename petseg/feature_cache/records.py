"""The contract of one example of a feature cache: how it is written and read.

A tf.train.Example whose values are plain bytes, so that reading is copying: the features as
models.features.encode gives them, and the raw mask at the size of the image.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from petseg.data import record
from petseg.data.label_map import IGNORE
from petseg.image_size import ImageSize, sides_of
from petseg.input_pipeline.class_ids import to_class_ids
from petseg.input_pipeline.truth import IMAGE_CLASS
from petseg.models.encoders.base import IMAGE
from petseg.models.features import features_key, offset_key, scale_key

_MASK = "mask"
_SIDES = "mask/sides"


@dataclasses.dataclass(frozen=True)
class Layout:
    """What every record of a cache holds.

    Attributes:
      image_size: Of the images and of the masks, in pixels.
      stages: Stage of the encoder, or IMAGE -> height, width and channels of its output.
      dtype: Of features, 'uint8' or 'float16'; see models.features.encode.
      signed: The stages whose outputs may be negative.
    """

    image_size: ImageSize
    stages: Mapping[str, tuple[int, int, int]]
    dtype: str
    signed: frozenset[str] = frozenset()

    @property
    def record_bytes(self) -> int:
        """Approximate size of a record."""
        features_bytes = sum(
            math.prod(shape) * self.dtype_of(stage).size for stage, shape in self.stages.items()
        )
        return features_bytes + math.prod(sides_of(self.image_size))

    def dtype_of(self, stage: str) -> tf.DType:
        """The type in which a stage's output is stored; images are uint8."""
        return tf.as_dtype("uint8" if stage == IMAGE else self.dtype)


def encode_record(
    name: bytes,
    image_class: int,
    mask: np.ndarray,
    sides: Sequence[int],
    encoded: Mapping[str, np.ndarray],
) -> bytes:
    """Serializes an example; the same arguments, the same bytes.

    Args:
      name: Unique in its data set.
      image_class: Of the whole image.
      mask: uint8 [height, width], raw labels.
      sides: Rows and columns of the mask that show the image; the rest only fills it up.
      encoded: One example's rows of models.features.encode.
    """
    example = tf.train.Example()
    feature = example.features.feature
    feature[record.SOURCE_ID].bytes_list.value.append(name)
    feature[record.CLASS_LABEL].int64_list.value.append(int(image_class))
    feature[_MASK].bytes_list.value.append(mask.tobytes())
    feature[_SIDES].int64_list.value.extend(map(int, sides))
    for key, values in encoded.items():
        feature[key].bytes_list.value.append(values.tobytes())
    return example.SerializeToString(deterministic=True)


def parse_records(
    serialized: tf.Tensor,
    layout: Layout,
    stages: Sequence[str],
    class_ids: np.ndarray,
    has_image_class: bool = False,
) -> dict[str, tf.Tensor]:
    """Parses several examples at once.

    Args:
      serialized: string [n].
      layout: Layout of the cache.
      stages: The wanted ones.
      class_ids: uint8 [256], raw mask value -> class id.
      has_image_class: Whether the class of the whole image is wanted, too.

    Returns:
      A dict of tensors: `mask`, uint8 [n, height, width], class ids or IGNORE; for each stage
      what models.features.encode gave; and with has_image_class truth.IMAGE_CLASS, int64 [n].
    """
    arrays = {features_key(s): (layout.dtype_of(s), layout.stages[s]) for s in stages}
    if layout.dtype == "uint8":
        scaled = [stage for stage in stages if stage != IMAGE]
        arrays |= {scale_key(s): (tf.float32, layout.stages[s][2:]) for s in scaled}
        offset = [stage for stage in stages if stage in layout.signed]
        arrays |= {offset_key(s): (tf.float32, layout.stages[s][2:]) for s in offset}
    texts = {key: tf.io.FixedLenFeature([], tf.string) for key in (*arrays, _MASK)}
    integers = {_SIDES: tf.io.FixedLenFeature([2], tf.int64)}
    if has_image_class:
        integers[record.CLASS_LABEL] = tf.io.FixedLenFeature([], tf.int64)
    fields = tf.io.parse_example(serialized, {**texts, **integers})
    features = {
        key: tf.reshape(tf.io.decode_raw(fields[key], dtype), [-1, *shape])
        for key, (dtype, shape) in arrays.items()
    }
    masks = tf.io.decode_raw(fields[_MASK], tf.uint8)
    raw = tf.reshape(masks, [-1, *sides_of(layout.image_size)])
    if has_image_class:
        features[IMAGE_CLASS] = fields[record.CLASS_LABEL]
    return {**features, "mask": _ignore_filling(to_class_ids(raw, class_ids), fields[_SIDES])}


def _ignore_filling(masks: tf.Tensor, sides: tf.Tensor) -> tf.Tensor:
    """IGNORE for what only fills masks up, below and to the right of their sides."""
    height, width = masks.shape[1:]
    rows = tf.range(height, dtype=tf.int64) < sides[:, :1]
    columns = tf.range(width, dtype=tf.int64) < sides[:, 1:]
    is_shown = rows[:, :, None] & columns[:, None, :]
    return tf.where(is_shown, masks, tf.constant(IGNORE, tf.uint8))
