"""The contract of one record: a tf.train.Example, and how it is written and read.

The keys are those of TF Model Garden's and DeepLab2's segmentation decoders.
"""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

IMAGE = "image/encoded"
IMAGE_FORMAT = "image/format"
FILENAME = "image/filename"
HEIGHT = "image/height"
WIDTH = "image/width"
SOURCE_ID = "image/source_id"
MASK = "image/segmentation/class/encoded"
MASK_FORMAT = "image/segmentation/class/format"
CLASS_LABEL = "image/class/label"
CLASS_TEXT = "image/class/text"


JPEG, PNG = b"jpeg", b"png"  # values of IMAGE_FORMAT and MASK_FORMAT


@dataclasses.dataclass(frozen=True)
class Record:
    """One image with its mask, encoded.

    Attributes:
      name: A name that is unique in the data set; the source file's stem.
      filename: The source file's name.
      image: RGB JPEG bytes; or, of --store=raw, an RGB PNG as raw_picture makes it.
      mask: 8-bit single-channel PNG bytes of raw labels, of the image's size; as raw_picture
        makes it, of --store=raw.
      height: Height in pixels.
      width: Width in pixels.
      class_label: Id of the image's class, from 0.
      class_text: Name of the image's class.
      image_format: JPEG or PNG.
    """

    name: str
    filename: str
    image: bytes
    mask: bytes
    height: int
    width: int
    class_label: int
    class_text: str
    image_format: bytes = JPEG


def encode_record(record: Record) -> bytes:
    """Serializes a record as a tf.train.Example; equal records give equal bytes."""
    features = {
        IMAGE: record.image,
        IMAGE_FORMAT: record.image_format,
        FILENAME: _utf8(record.filename),
        HEIGHT: record.height,
        WIDTH: record.width,
        SOURCE_ID: _utf8(record.name),
        MASK: record.mask,
        MASK_FORMAT: PNG,
        CLASS_LABEL: record.class_label,
        CLASS_TEXT: _utf8(record.class_text),
    }
    example = tf.train.Example()
    for key, value in features.items():
        if isinstance(value, bytes):
            example.features.feature[key].bytes_list.value.append(value)
        else:
            example.features.feature[key].int64_list.value.append(value)
    # By default protobuf writes maps in any order.
    return example.SerializeToString(deterministic=True)


def parse_record(serialized: tf.Tensor, more: Sequence[str] = ()) -> dict[str, tf.Tensor]:
    """Parses serialized examples without decoding their pictures.

    Args:
      serialized: string [], or string [n], which costs a third per example.
      more: Keys of further texts to parse.

    Returns:
      A dict of tensors of that shape: IMAGE, MASK and SOURCE_ID (string), HEIGHT, WIDTH and
      CLASS_LABEL (int64; -1 in a record of other tools that has none), and `more` (string).
    """
    serialized = tf.convert_to_tensor(serialized)
    parse = tf.io.parse_single_example if serialized.shape.rank == 0 else tf.io.parse_example
    return parse(
        serialized,
        {
            IMAGE: tf.io.FixedLenFeature([], tf.string),
            MASK: tf.io.FixedLenFeature([], tf.string),
            SOURCE_ID: tf.io.FixedLenFeature([], tf.string),
            HEIGHT: tf.io.FixedLenFeature([], tf.int64),
            WIDTH: tf.io.FixedLenFeature([], tf.int64),
            CLASS_LABEL: tf.io.FixedLenFeature([], tf.int64, default_value=-1),
            **{key: tf.io.FixedLenFeature([], tf.string) for key in more},
        },
    )


def parse_name(serialized: tf.Tensor) -> tf.Tensor:
    """Parses the name of a serialized example, also of a feature cache: string [] -> string []."""
    return tf.io.parse_single_example(
        serialized, {SOURCE_ID: tf.io.FixedLenFeature([], tf.string)}
    )[SOURCE_ID]


def decode_image(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a record's image, JPEG or PNG: string [] -> uint8 [height, width, 3], RGB."""
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)


def decode_image_as_windows(encoded: tf.Tensor) -> tf.Tensor:
    """The same, but with the pixels of which windows.decode_window gives a part.

    They differ where a JPEG's colours have fewer samples than its brightness: these samples are
    repeated, not smoothed, because a window does not know its surroundings.
    """
    return tf.io.decode_jpeg(encoded, channels=3, fancy_upscaling=False)  # PNGs, too


def decode_mask(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a record's mask: string [] -> uint8 [height, width, 1], raw labels."""
    return tf.io.decode_png(encoded, channels=1)


def _utf8(text: str) -> bytes:
    """Encodes text; file names need not be valid Unicode, and keep their bytes."""
    return text.encode(errors="surrogateescape")
