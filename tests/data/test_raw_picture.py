import io
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from petseg.data import raw_picture

SHAPES = [(1, 1, 3), (7, 5, 3), (64, 83, 3), (31, 17, 1), (2, raw_picture.MOST_COLUMNS, 3)]


def drawn(shape) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_reader_sees_the_same_pixels(shape):
    pixels = drawn(shape)
    content = raw_picture.encode(pixels)
    for read in (tf.io.decode_image, tf.io.decode_png, tf.io.decode_jpeg):
        np.testing.assert_array_equal(read(content), pixels)
    with Image.open(io.BytesIO(content)) as picture:
        picture.verify()  # the checksums of its chunks
    with Image.open(io.BytesIO(content)) as picture:
        np.testing.assert_array_equal(np.asarray(picture).reshape(shape), pixels)
    np.testing.assert_array_equal(raw_picture.decode(content, shape[2]), pixels)


@pytest.mark.parametrize("shape", SHAPES)
def test_pixels_lie_where_the_sides_say(shape):
    pixels = drawn(shape)
    content = raw_picture.encode(pixels)
    row_bytes = raw_picture.ROW_HEAD_BYTES + shape[1] * shape[2]
    assert len(content) == raw_picture.HEAD_BYTES + shape[0] * row_bytes + raw_picture.TAIL_BYTES
    for row, expected in enumerate(pixels):
        begin = raw_picture.HEAD_BYTES + row * row_bytes + raw_picture.ROW_HEAD_BYTES
        assert content[begin : begin + expected.size] == expected.tobytes()
    # The zlib stream is whole, with its checksum: it ends where the chunk's own begins.
    stream = content[raw_picture.HEAD_BYTES - 2 : -16]
    assert len(zlib.decompress(stream)) == shape[0] * (1 + shape[1] * shape[2])


def test_whatever_byte_differs_is_found():
    content = raw_picture.encode(drawn((3, 4, 3)))
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1
        with pytest.raises(ValueError, match=r"^its (bytes|length)"):
            raw_picture.decode(bytes(damaged), 3)
    for other in (content[:-1], content + b"\0", b"", tf.io.encode_png(drawn((3, 4, 3))).numpy()):
        with pytest.raises(ValueError, match=r"^(its|it is) "):
            raw_picture.decode(other, 3)
    with pytest.raises(ValueError, match=r"^its "):
        raw_picture.decode(content, 1)


def test_a_row_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="longer than 21,844"):
        raw_picture.encode(np.zeros((1, raw_picture.MOST_COLUMNS + 1, 3), np.uint8))
