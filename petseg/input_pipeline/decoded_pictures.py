"""The contract of a decoded example: where its pixels lie in a store, and how they are read.

A store is one row of bytes. An example's image lies there row by row, and its mask behind it.
Rows are filled up to a multiple of 16 pixels and pictures to a multiple of 4 rows, so that each
picture begins and ends at a multiple of 64 bytes: TensorFlow then slices it without a copy, and
only the pixels of a window are ever copied.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import tensorflow as tf

from petseg.data import record
from petseg.input_pipeline import resizing, windows

OFFSET = "decoded/offset"
CRC32C = "decoded/crc32c"
_ROWS, _COLUMNS, _CHANNELS = 4, 16, 3


def example_bytes(heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Bytes that examples of these sides take in a store."""
    return (_CHANNELS + 1) * _up_to(heights, _ROWS) * _up_to(widths, _COLUMNS)


def lay_out(image: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """An example as it lies in a store.

    Args:
      image: uint8 [height, width, 3].
      mask: uint8 [height, width].

    Returns:
      uint8 [example_bytes].
    """
    height, width = tf.shape(mask)[0], tf.shape(mask)[1]
    lacking = [[0, _up_to(height, _ROWS) - height], [0, _up_to(width, _COLUMNS) - width]]
    planes = tf.pad(image, [*lacking, [0, 0]]), tf.pad(mask, lacking)
    return tf.concat([tf.reshape(plane, [-1]) for plane in planes], 0)


def encode_entry(name: bytes, height: int, width: int, offset: int, crc32c: int) -> bytes:
    """Serializes the record that stands for an example whose pixels lie in a store.

    Args:
      name: Of the example, as in its own record.
      height: Of its pictures, in pixels.
      width: In pixels.
      offset: Of its first byte in the store.
      crc32c: Of its bytes there.
    """
    example = tf.train.Example()
    feature = example.features.feature
    feature[record.SOURCE_ID].bytes_list.value.append(name)
    values = {record.HEIGHT: height, record.WIDTH: width, OFFSET: offset, CRC32C: crc32c}
    for key, value in values.items():
        feature[key].int64_list.value.append(int(value))
    return example.SerializeToString(deterministic=True)


def parse_entries(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Parses encode_entry's records, string [n], into tensors [n] by key."""
    keys = (record.HEIGHT, record.WIDTH, OFFSET, CRC32C)
    integers = {key: tf.io.FixedLenFeature([], tf.int64) for key in keys}
    name = {record.SOURCE_ID: tf.io.FixedLenFeature([], tf.string)}
    return tf.io.parse_example(serialized, {**name, **integers})


class DecodedPictures:
    """The pictures of a store; see pictures.Pictures."""

    carried: ClassVar[Sequence[str]] = (OFFSET, record.HEIGHT, record.WIDTH)

    def __init__(self, pixels: tf.Tensor):
        """`pixels`: the store, uint8 [bytes]."""
        self._pixels = pixels

    def parse(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        """See Pictures.parse."""
        return parse_entries(serialized)

    def image_window(
        self, example: dict[str, tf.Tensor], window: tf.Tensor, reduction: tf.Tensor
    ) -> tf.Tensor:
        """See Pictures.image_window; a reduced window holds the means of its pixels."""
        rows, columns = _padded_sides(example)
        plane = tf.slice(self._pixels, example[OFFSET][None], [rows * columns * _CHANNELS])
        lines = tf.reshape(plane, [rows, columns * _CHANNELS])
        top, left, height, width = tf.unstack(tf.cast(window, tf.int64))
        pixels = tf.slice(lines, [top, left * _CHANNELS], [height, width * _CHANNELS])
        return windows.reduce(tf.reshape(pixels, [height, width, _CHANNELS]), reduction)

    def mask(self, example: dict[str, tf.Tensor], rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        """See Pictures.mask."""
        height, width = _padded_sides(example)
        begin = example[OFFSET] + height * width * _CHANNELS
        plane = tf.reshape(tf.slice(self._pixels, begin[None], [height * width]), [height, width])
        return resizing.sample(plane, rows, columns)


def _padded_sides(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    return _up_to(example[record.HEIGHT], _ROWS), _up_to(example[record.WIDTH], _COLUMNS)


def _up_to(side: int | np.ndarray | tf.Tensor, multiple: int) -> int | np.ndarray | tf.Tensor:
    return -(-side // multiple) * multiple
