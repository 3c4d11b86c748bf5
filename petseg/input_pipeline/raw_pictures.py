"""Windows of pictures that are stored decoded: only their rows are copied out of a record."""

from collections.abc import Sequence
from typing import ClassVar

import tensorflow as tf

from petseg.data import raw_picture, record
from petseg.input_pipeline import resizing, windows

_CHANNELS = 3


class RawPictures:
    """The pictures of a data set of --store=raw; see pictures.Pictures and data.raw_picture."""

    carried: ClassVar[Sequence[str]] = (record.IMAGE, record.MASK, record.HEIGHT, record.WIDTH)

    def parse(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        """See Pictures.parse."""
        return record.parse_record(serialized)

    def image_window(
        self, example: dict[str, tf.Tensor], window: tf.Tensor, reduction: tf.Tensor
    ) -> tf.Tensor:
        """See Pictures.image_window; a reduced window holds the means of its pixels."""
        top, left, height, width = tf.unstack(tf.cast(window, tf.int64))
        rows = _rows(example[record.IMAGE], example[record.WIDTH] * _CHANNELS, top, height)
        begin = raw_picture.ROW_HEAD_BYTES + left * _CHANNELS
        pixels = tf.slice(rows, [0, begin], [height, width * _CHANNELS])
        return windows.reduce(tf.reshape(pixels, [height, width, _CHANNELS]), reduction)

    def mask(self, example: dict[str, tf.Tensor], rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        """See Pictures.mask."""
        width = example[record.WIDTH]
        whole = _rows(example[record.MASK], width, tf.zeros_like(width), example[record.HEIGHT])
        return resizing.sample(whole, rows, columns + raw_picture.ROW_HEAD_BYTES)


def _rows(encoded: tf.Tensor, columns: tf.Tensor, first: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Some rows of a picture with their heads, uint8 [count, ROW_HEAD_BYTES + columns].

    Args:
      encoded: string [], from raw_picture.encode.
      columns: int64 [], bytes of the pixels of a row.
      first: int64 [], the first row that is wanted.
      count: int64 [], the number of rows that are wanted.
    """
    row_bytes = raw_picture.ROW_HEAD_BYTES + columns
    begin = raw_picture.HEAD_BYTES + first * row_bytes
    # Beyond the end substr's error would quote the picture; now tf.reshape's says the shape.
    begin = tf.minimum(begin, tf.cast(tf.strings.length(encoded), tf.int64))
    content = tf.strings.substr(encoded, begin, count * row_bytes)
    return tf.reshape(tf.io.decode_raw(content, tf.uint8), [count, row_bytes])
