"""Pictures decoded in a SavedModel, against conversion and predict."""

import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from testing.conversion import encoded

from petseg.data import picture_file
from petseg.exporting import encoded_pictures

MAX_PIXELS = 5000
RNG = np.random.default_rng(0)
# Blocks, which JPEG keeps nearly as they are.
BLOCKS = np.kron(RNG.integers(0, 256, (3, 5, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def decode():
    decode = tf.function(
        lambda content: encoded_pictures.decode(content, MAX_PIXELS),
        input_signature=[tf.TensorSpec([], tf.string)],
    )
    return lambda content: decode(tf.constant(content)).numpy()


def as_predict(content: bytes) -> np.ndarray:
    with picture_file.open_picture(content, "picture") as picture:
        return picture_file.to_upright_array(picture)


def png(depth: int, rows: list[bytes], width: int) -> bytes:
    """A grey PNG of few bits, which Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )  # fmt: skip


def pictures() -> dict[str, bytes]:
    image = Image.fromarray(BLOCKS)
    alpha = RNG.integers(0, 256, (48, 80, 1), np.uint8)
    rgba = np.concatenate([BLOCKS, alpha], -1)
    deep = RNG.integers(0, 1 << 16, (30, 40)).astype(np.uint16)
    return {
        "RGB": encoded(image, "PNG"),
        "RGBA": encoded(Image.fromarray(rgba), "PNG"),
        "LA": encoded(Image.fromarray(np.ascontiguousarray(rgba[..., 2:])), "PNG"),
        "palette": encoded(image.quantize(8), "PNG"),
        "transparent colour of a palette": encoded(image.quantize(8), "PNG", transparency=3),
        "transparent grey": encoded(image.convert("L"), "PNG", transparency=int(BLOCKS[0, 0, 0])),
        "16 bits": encoded(Image.fromarray(deep), "PNG"),
        "transparent grey of 16 bits": encoded(
            Image.fromarray(deep), "PNG", transparency=int(deep[3, 4])
        ),
        "1 bit": png(1, [b"\xa5", b"\x0f"], 8),
        "2 bits": png(2, [b"\x1b", b"\xe4"], 4),
        "4 bits": png(4, [b"\x0f", b"\x7e"], 2),
        "BMP": encoded(image, "BMP"),
    }


@pytest.mark.parametrize("kind", pictures())
def test_pixels_are_those_that_predict_sees(decode, kind):
    content = pictures()[kind]
    expected = as_predict(content).astype(int)
    found = decode(content)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1, kind


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_as_its_exif_tag_says(decode, orientation, byte_order):
    exif = Image.Exif()
    exif.endian = byte_order
    exif[0x010F], exif[ORIENTATION] = "a maker", orientation
    content = encoded(Image.fromarray(BLOCKS), "JPEG", exif=exif, subsampling=0, comment="first")
    expected = as_predict(content).astype(int)
    assert expected.shape == ((80, 48, 3) if orientation > 4 else (48, 80, 3))
    found = decode(content)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 4  # two decoders of JPEG


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60))
def test_a_strange_exif_segment_does_not_cost_the_picture(decode, junk):
    plain = encoded(Image.fromarray(BLOCKS), "JPEG")
    body = b"Exif\0\0" + junk
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    found = decode(plain[:2] + segment + plain[2:])
    assert sorted(found.shape) == [3, 48, 80]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_a_picture_past_the_limit_is_not_decoded(decode, kind):
    fits = encoded(Image.new("RGB", (100, MAX_PIXELS // 100)), kind)
    assert decode(fits).shape == (MAX_PIXELS // 100, 100, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="assertion failed"):
        decode(encoded(Image.new("RGB", (100, MAX_PIXELS // 100 + 1)), kind))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_a_header_past_the_limit_is_refused_before_its_content_is_missed(decode, kind):
    """What follows the header is cut off: a decoder would complain of that."""
    content = bytearray(encoded(Image.new("RGB", (9, 9)), kind))
    if kind == "JPEG":
        place = content.index(b"\xff\xc0")
        content[place + 5 : place + 9] = struct.pack(">HH", 65_000, 65_000)
    elif kind == "PNG":
        content[16:24] = struct.pack(">II", 1 << 30, 1 << 30)
        content = content[:33]
    else:
        content[18:26] = struct.pack("<ii", 1 << 30, -(1 << 30))
    with pytest.raises(tf.errors.InvalidArgumentError, match="assertion failed"):
        decode(bytes(content))


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"BM", b"GIF89a" + bytes(20), b"junk"])
def test_what_is_no_picture_is_refused(decode, content):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(content)
