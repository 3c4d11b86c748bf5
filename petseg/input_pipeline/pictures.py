"""Where an example's pixels come from: the JPEG and PNG of its record, or decoded before.

The manifest says how a data set stores its pictures, and of_store alone decides by it.
"""

from collections.abc import Sequence
from typing import ClassVar, Protocol

import tensorflow as tf

from petseg.data import record, store_kinds
from petseg.input_pipeline import resizing, windows
from petseg.input_pipeline.raw_pictures import RawPictures


class Pictures(Protocol):
    """The images and masks of shards.

    Attributes:
      carried: Keys of `parse` that `image_window` and `mask` need.
    """

    carried: Sequence[str]

    def parse(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        """Serialized records, string [n] -> record.HEIGHT, WIDTH, SOURCE_ID and `carried`."""

    def image_window(
        self, example: dict[str, tf.Tensor], window: tf.Tensor, reduction: tf.Tensor
    ) -> tf.Tensor:
        """Part of an image, as windows.choose_reductions has it: uint8 [height, width, 3], RGB."""

    def mask(self, example: dict[str, tf.Tensor], rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        """Rows and columns, int32, of a mask; see resizing.sample: uint8, raw labels."""


class EncodedPictures:
    """Pictures that are decoded from their records each time; see Pictures."""

    carried: ClassVar[Sequence[str]] = (record.IMAGE, record.MASK)

    def parse(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        """See Pictures.parse."""
        return record.parse_record(serialized)

    def image_window(
        self, example: dict[str, tf.Tensor], window: tf.Tensor, reduction: tf.Tensor
    ) -> tf.Tensor:
        """See Pictures.image_window."""
        return windows.decode_window(example[record.IMAGE], window, reduction)

    def mask(self, example: dict[str, tf.Tensor], rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        """See Pictures.mask."""
        mask = tf.squeeze(record.decode_mask(example[record.MASK]), -1)
        return resizing.sample(mask, rows, columns)


ENCODED = EncodedPictures()
_PICTURES = {store_kinds.ENCODED: ENCODED, store_kinds.RAW: RawPictures()}


def of_store(store: str) -> Pictures:
    """What reads the pictures of records, by Manifest.store."""
    return _PICTURES[store]
