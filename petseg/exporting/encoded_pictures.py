"""Decodes encoded pictures in TensorFlow alone, for SavedModels.

The pixels are those of petseg.data.picture_file: turned as the EXIF tag of a JPEG says,
transparent parts of a PNG over white, of 16 bits the upper eight.
"""

import tensorflow as tf

FORMATS = "JPEG, PNG or BMP"  # of a GIF no header bounds what its decoder takes
_JPEG, _PNG, _BMP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM"
_EXIF = b"Exif\0\0"
_APP0, _APP1, _APP15, _COMMENT, _FILL = 0xE0, 0xE1, 0xEF, 0xFE, 0xFF
_PNG_DEPTH = 24  # the place in its header
_ORIENTATION, _UPRIGHT = 0x0112, 1
_SEARCHED = 1000  # segments of a JPEG, and entries of its EXIF directory
_STRIP_PIXELS = 1 << 20  # what is laid over white at a time


def decode(content: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Decodes one picture.

    Args:
      content: string [], one of FORMATS.
      max_pixels: The most pixels that a header may claim; what claims more is not decoded.

    Returns:
      uint8 [height, width, 3], RGB.

    Raises:
      tf.errors.InvalidArgumentError: It is of another format, damaged, or too large.
    """

    def jpeg() -> tf.Tensor:
        height, width, _ = tf.unstack(tf.image.extract_jpeg_shape(content))
        with _size_checked(height, width, max_pixels):
            image = tf.io.decode_jpeg(tf.identity(content), channels=3)
        return _turned(image, _orientation(content))

    def png() -> tf.Tensor:
        width, height = _integers(content, 16, tf.int32, little_endian=False)
        with _size_checked(height, width, max_pixels):
            rgba = tf.io.decode_png(tf.identity(content), channels=4)
        return _over_white(rgba, _is_opaque(content, rgba))

    def bmp() -> tf.Tensor:
        width, height = _integers(content, 18, tf.int32, little_endian=True)
        with _size_checked(tf.abs(height), width, max_pixels):
            return tf.io.decode_bmp(tf.identity(content), channels=3)

    def unknown() -> tf.Tensor:
        # Of no size, which no picture has.
        with _size_checked(tf.constant(0), tf.constant(0), max_pixels):
            return tf.zeros([0, 0, 3], tf.uint8)

    image = tf.case(
        [
            (_begins_with(content, _JPEG), jpeg),
            (_begins_with(content, _PNG), png),
            (_begins_with(content, _BMP), bmp),
        ],
        default=unknown,
    )
    return tf.ensure_shape(image, [None, None, 3])


def _size_checked(height: tf.Tensor, width: tf.Tensor, max_pixels: int) -> object:
    """What is made in this context waits for the check."""
    height, width = tf.cast(height, tf.int64), tf.cast(width, tf.int64)
    is_possible = (height > 0) & (width > 0) & (height * width <= max_pixels)
    return tf.control_dependencies([tf.debugging.Assert(is_possible, [height, width])])


def _begins_with(content: tf.Tensor, signature: bytes) -> tf.Tensor:
    return tf.strings.substr(content, 0, len(signature)) == signature


def _integers(
    content: tf.Tensor, position: int, dtype: tf.DType, little_endian: bool
) -> list[tf.Tensor]:
    """Two integers that stand at a fixed place."""
    raw = tf.strings.substr(content, position, 2 * dtype.size)
    decoded = tf.io.decode_raw(raw, dtype, little_endian=little_endian)
    return tf.unstack(tf.ensure_shape(decoded, [2]))


def _is_opaque(png: tf.Tensor, rgba: tf.Tensor) -> tf.Tensor:
    """Whether alpha is what the decoder fills in for a PNG of few bits, in those bits: bool []."""
    (depth,) = tf.unstack(_bytes(png, tf.constant(_PNG_DEPTH), 1))

    def is_filled() -> tf.Tensor:
        alpha = rgba[..., 3]
        most = tf.cast(tf.bitwise.left_shift(1, depth) - 1, tf.uint8)
        return (tf.reduce_min(alpha) == most) & (tf.reduce_max(alpha) == most)

    return tf.cond(depth < 8, is_filled, lambda: tf.constant(False))


def _over_white(rgba: tf.Tensor, is_opaque: tf.Tensor) -> tf.Tensor:
    """Lays uint8 [height, width, 4] over white, some rows at a time, which bounds memory."""
    height, width = tf.shape(rgba)[0], tf.shape(rgba)[1]
    rows = tf.maximum(_STRIP_PIXELS // width, 1)
    count = -(-height // rows)

    def add(index: tf.Tensor, strips: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        strip = tf.cast(rgba[index * rows : (index + 1) * rows], tf.int32)
        colour, alpha = strip[..., :3], strip[..., 3:]
        alpha = tf.where(is_opaque, 255, alpha)
        mixed = (colour * alpha + 255 * (255 - alpha) + 127) // 255
        return index + 1, strips.write(index, tf.cast(mixed, tf.uint8))

    strips = tf.TensorArray(
        tf.uint8, count, infer_shape=False, element_shape=tf.TensorShape([None, None, 3])
    )
    _, strips = tf.while_loop(
        lambda index, _: index < count, add, (tf.constant(0), strips), parallel_iterations=1
    )
    return strips.concat()


def _turned(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns [height, width, channels] as an EXIF orientation, 1-8, asks."""

    def is_in(*orientations: int) -> tf.Tensor:
        return tf.reduce_any(orientation == tf.constant(orientations))

    image = tf.cond(
        is_in(5, 6, 7, 8), lambda: tf.transpose(image, [1, 0, 2]), lambda: tf.identity(image)
    )
    image = tf.cond(is_in(3, 4, 7, 8), lambda: image[::-1], lambda: tf.identity(image))
    return tf.cond(is_in(2, 3, 6, 7), lambda: image[:, ::-1], lambda: tf.identity(image))


def _orientation(jpeg: tf.Tensor) -> tf.Tensor:
    """The orientation, int32 [], that a JPEG's EXIF tag gives; 1 if there is none."""

    def is_before(_: tf.Tensor, exif: tf.Tensor, is_open: tf.Tensor) -> tf.Tensor:
        return (exif < 0) & is_open

    def step(position: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Looks at one segment: FF, marker, length in two bytes, content."""
        head = _bytes(jpeg, position, 4 + len(_EXIF))
        marker, length = head[1], head[2] * 256 + head[3]
        is_exif = (marker == _APP1) & tf.reduce_all(head[4:] == list(_EXIF))
        # The application's segments and comments come first.
        is_theirs = ((marker >= _APP0) & (marker <= _APP15)) | (marker == _COMMENT)
        is_filled = marker == _FILL
        following = position + tf.where(is_filled, 1, 2 + length)
        exif = tf.where(is_exif, position + 4 + len(_EXIF), -1)
        return following, exif, (head[0] == _FILL) & (is_theirs | is_filled)

    start = (tf.constant(2), tf.constant(-1), tf.constant(True))
    _, exif, _ = tf.while_loop(is_before, step, start, maximum_iterations=_SEARCHED)

    def read() -> tf.Tensor:
        is_little = _bytes(jpeg, exif, 1)[0] == ord("I")
        directory = exif + _number(jpeg, exif + 4, 4, is_little)
        count = _number(jpeg, directory, 2, is_little)

        def find(index: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            entry = directory + 2 + 12 * index
            is_it = _number(jpeg, entry, 2, is_little) == _ORIENTATION
            return index + 1, tf.where(is_it, _number(jpeg, entry + 8, 2, is_little), 0)

        _, value = tf.while_loop(
            lambda index, value: (index < count) & (value == 0),
            find,
            (tf.constant(0), tf.constant(0)),
            maximum_iterations=_SEARCHED,
        )
        return tf.where((value >= 1) & (value <= 8), value, _UPRIGHT)

    return tf.cond(exif < 0, lambda: tf.constant(_UPRIGHT), read)


def _bytes(content: tf.Tensor, position: tf.Tensor, count: int) -> tf.Tensor:
    """Some bytes of a string, int32 [count]; what lies past its end is 0."""
    first = tf.clip_by_value(position, 0, tf.strings.length(content))
    padded = tf.strings.join([tf.strings.substr(content, first, count), b"\0" * count])
    digits = tf.io.decode_raw(tf.strings.substr(padded, 0, count), tf.uint8)
    return tf.cast(tf.ensure_shape(digits, [count]), tf.int32)


def _number(content: tf.Tensor, position: tf.Tensor, count: int, is_little: tf.Tensor) -> tf.Tensor:
    """An unsigned integer of up to four bytes, int32 []."""
    digits = _bytes(content, position, count)
    digits = tf.where(is_little, digits[::-1], digits)
    return tf.reduce_sum(digits * [256**place for place in reversed(range(count))])
