"""Decodes the pictures of a record, so that training need not (--store=raw)."""

import dataclasses

import tensorflow as tf

from petseg.data import raw_picture, record
from petseg.data.picture_file import BadFile
from petseg.data.record import Record


def decode(encoded: Record, split: str) -> Record:
    """Returns a record whose pictures hold the same pixels without compression.

    Those of train are decoded as training decodes windows, all others as evaluation decodes whole
    images: so batches are those of the encoded record.

    Args:
      encoded: The record.
      split: Its split.

    Raises:
      BadFile: Its pictures are too wide, or damaged.
    """
    if encoded.width > raw_picture.MOST_COLUMNS:
        raise BadFile(
            f"image is {encoded.width:,} px wide, --store=raw stores up to "
            f"{raw_picture.MOST_COLUMNS:,} px; make it smaller with --short_side"
        )
    decode_image = record.decode_image_as_windows if split == "train" else record.decode_image
    try:
        image = decode_image(encoded.image).numpy()
        labels = record.decode_mask(encoded.mask).numpy()[..., 0]
    except tf.errors.InvalidArgumentError as error:
        raise BadFile("image or mask is damaged: it cannot be decoded") from error
    return dataclasses.replace(
        encoded,
        image=raw_picture.encode(image),
        mask=raw_picture.encode(labels),
        image_format=record.PNG,
    )
