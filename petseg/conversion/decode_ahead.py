"""Decodes the pictures of several pairs in one call.

TensorFlow adds a tenth of a millisecond to each call, which is a tenth of what checking an
ordinary photograph takes. What does not decode, or is special, is left to the checks of a
single picture, which also say why.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from petseg.conversion import masks
from petseg.conversion.sources.base import MaskRules
from petseg.data import jpeg, picture_file, record

PAIRS_AT_ONCE = 8
_MAX_PIXELS = 4 << 20  # of a picture that is decoded ahead, which bounds memory


@dataclasses.dataclass(frozen=True)
class Decoded:
    """What is known of a pair's pictures; None is not known, and says nothing.

    Attributes:
      image: uint8 [height / 8, width / 8], as jpeg.decode_small gives it.
      mask: uint8 [height, width], as record.decode_mask gives it.
    """

    image: np.ndarray | None = None
    mask: np.ndarray | None = None


UNKNOWN = Decoded()


def decode_ahead(pairs: Sequence[Sequence[bytes]], rules: MaskRules) -> list[Decoded]:
    """Decodes plain JPEGs and grey PNGs.

    Args:
      pairs: At most PAIRS_AT_ONCE lists of an image file and mask files; () if they cannot be
        read.
      rules: What the masks may contain.
    """
    images = [pair[0] if pair and _is_plain(pair[0]) else None for pair in pairs]
    grey = [pair[1] if len(pair) == 2 and _is_grey(pair[1], rules) else None for pair in pairs]
    if not any((*images, *grey)):
        return [UNKNOWN] * len(pairs)
    plain_jpeg, grey_png = _fillers()
    free = [None] * (PAIRS_AT_ONCE - len(pairs))
    with jpeg.complaints() as complaints:
        try:
            small, labels = _decode_all()(
                tf.constant([image or plain_jpeg for image in (*images, *free)]),
                tf.constant([mask or grey_png for mask in (*grey, *free)]),
            )
        except tf.errors.InvalidArgumentError:
            return [UNKNOWN] * len(pairs)
    if complaints:
        return [UNKNOWN] * len(pairs)
    return [
        Decoded(
            small[index].numpy()[..., 0] if images[index] else None,
            labels[index].numpy()[..., 0] if grey[index] else None,
        )
        for index in range(len(pairs))
    ]


def _is_plain(content: bytes) -> bool:
    sides = picture_file.size_of_plain_jpeg(content)
    return sides is not None and sides[0] * sides[1] <= _MAX_PIXELS


def _is_grey(content: bytes, rules: MaskRules) -> bool:
    if not masks.is_grey_png(content, rules):
        return False
    height, width = picture_file.size_by_header(content)
    return 0 < height * width <= _MAX_PIXELS


@functools.cache
def _fillers() -> tuple[bytes, bytes]:
    """A JPEG and a PNG for places where nothing is to be decoded."""
    grey = np.zeros((8, 8, 1), np.uint8)
    return tf.io.encode_jpeg(grey).numpy(), tf.io.encode_png(grey).numpy()


@functools.cache
def _decode_all() -> tf.types.experimental.ConcreteFunction:
    files = tf.TensorSpec([PAIRS_AT_ONCE], tf.string)

    @tf.function(autograph=False)
    def decode(images: tf.Tensor, masks: tf.Tensor) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        return (
            [jpeg.decode_grey(image) for image in tf.unstack(images)],
            [record.decode_mask(mask) for mask in tf.unstack(masks)],
        )

    return decode.get_concrete_function(files, files)
