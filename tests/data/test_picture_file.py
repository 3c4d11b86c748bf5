"""The RGB pixels of every kind of picture, against what is known of its format."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from testing.conversion import encoded

from petseg.data import picture_file
from petseg.data.picture_file import BadFile

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), np.uint8)
DEEP = RNG.integers(0, 1 << 16, (5, 7)).astype(np.uint16)
ORIENTATION = 0x0112


def upright(content: bytes) -> np.ndarray:
    with picture_file.open_picture(content, "image") as picture:
        return picture_file.to_upright_array(picture)


def converted(content: bytes) -> np.ndarray:
    with picture_file.open_picture(content, "image") as picture:
        return np.asarray(picture_file.to_rgb(picture))


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.astype(np.uint8)[..., None], 3, -1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_of_16_bits_the_upper_eight_are_taken(kind):
    content = encoded(Image.fromarray(DEEP), kind)
    np.testing.assert_array_equal(upright(content), grey(DEEP // 256))
    np.testing.assert_array_equal(converted(content), grey(DEEP // 256))


def test_a_deep_picture_is_inverted_and_made_transparent_as_its_file_says():
    inverted = encoded(Image.fromarray(DEEP), "TIFF", tiffinfo={262: 0})  # white is zero
    np.testing.assert_array_equal(upright(inverted), grey(255 - DEEP // 256))
    clear = encoded(Image.fromarray(DEEP), "PNG", transparency=int(DEEP[2, 3]))
    expected = grey(DEEP // 256)
    expected[2, 3] = 255
    np.testing.assert_array_equal(upright(clear), expected)


@pytest.mark.parametrize(("dtype", "mode"), [(np.float32, "F"), (np.int32, "I")])
def test_pixels_of_no_known_range_are_refused(dtype, mode):
    content = encoded(Image.fromarray(DEEP.astype(dtype)), "TIFF")
    told = f"pixels of mode {mode}, whose range is not known; store .*--image_range"
    with pytest.raises(BadFile, match=told):
        upright(content)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_lie_over_white(mode):
    colours = RGB if mode == "RGBA" else grey(RGB[..., 0])
    alpha = RNG.integers(0, 256, (5, 7, 1), np.uint8)
    channels = np.concatenate([colours[..., : len(mode) - 1], alpha], -1)
    shown = (colours * (alpha / 255) + 255 * (1 - alpha / 255)).round()
    found = upright(encoded(Image.fromarray(channels, mode), "PNG"))
    assert np.abs(found - shown).max() <= 1
    assert (found[alpha[..., 0] == 255] == colours[alpha[..., 0] == 255]).all()


def test_a_transparent_colour_of_a_palette_is_white():
    indices = RNG.integers(0, 3, (5, 7), np.uint8)
    picture = Image.fromarray(indices, "L")
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    expected = np.array([[10, 20, 30], [255, 255, 255], [70, 80, 90]])[indices]
    for kind in ("PNG", "GIF"):
        np.testing.assert_array_equal(upright(encoded(picture, kind, transparency=1)), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_exif_tag_says(kind, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(Image.fromarray(RGB), kind, exif=exif, **options)
    turned = RGB.transpose(1, 0, 2) if orientation > 4 else RGB
    turned = turned[::-1] if orientation in (3, 4, 7, 8) else turned
    turned = turned[:, ::-1] if orientation in (2, 3, 6, 7) else turned
    np.testing.assert_array_equal(upright(content), turned)


def test_a_picture_converted_in_strips_is_the_same(monkeypatch):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    picture = Image.fromarray(RNG.integers(0, 256, (23, 9, 4), np.uint8))
    contents = [encoded(picture, "PNG", exif=exif), encoded(Image.fromarray(DEEP), "TIFF")]
    whole = [(upright(content), converted(content)) for content in contents]
    monkeypatch.setattr(picture_file, "_STRIP_PIXELS", 20)
    for content, (as_array, as_picture) in zip(contents, whole, strict=True):
        np.testing.assert_array_equal(upright(content), as_array)
        np.testing.assert_array_equal(converted(content), as_picture)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_the_size_is_read_from_the_header_alone(kind):
    content = encoded(Image.fromarray(RGB).convert("L"), kind)
    assert picture_file.size_by_header(content) == (5, 7)
    assert picture_file.size_by_header(content[:8]) is None
    assert picture_file.size_by_header(b"no picture") is None


def test_a_bomb_is_refused_by_its_header():
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header
    content = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", zlib.crc32(chunk[4:]))
    with pytest.raises(BadFile, match="pixels"):
        upright(content + encoded(Image.fromarray(RGB), "PNG")[33:])


def test_only_the_formats_that_are_read_everywhere_are_opened():
    # Pillow would start another program for it.
    with pytest.raises(BadFile, match="image is no picture that petseg reads"):
        upright(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")


def test_pillows_own_way_to_turn_is_the_same():
    exif = Image.Exif()
    exif[ORIENTATION] = 7
    picture = Image.fromarray(RGB)
    content = encoded(picture, "PNG", exif=exif)
    picture.getexif()[ORIENTATION] = 7
    np.testing.assert_array_equal(upright(content), np.asarray(ImageOps.exif_transpose(picture)))


@pytest.mark.parametrize("field_type", range(14))
def test_a_metadata_field_of_any_type_does_not_hide_the_pixels(field_type):
    tags = Image.Exif()
    tags[ORIENTATION], tags[282] = 6, 72.0
    content = bytearray(encoded(Image.fromarray(RGB), "JPEG", exif=tags, quality=100))
    start = content.index(b"Exif\0\0") + 6
    fields = range(start + 10, start + 60, 12)
    resolution = next(f for f in fields if struct.unpack_from(">H", content, f)[0] == 282)
    struct.pack_into(">H", content, resolution + 2, field_type)
    plain = encoded(Image.fromarray(RGB), "JPEG", quality=100)
    np.testing.assert_array_equal(upright(bytes(content)), np.rot90(converted(plain), -1))


@pytest.mark.parametrize(
    "failure", [TypeError, struct.error, AttributeError, KeyError, zlib.error, ZeroDivisionError]
)
def test_whatever_pillow_raises_the_picture_alone_is_bad(failure):
    with (
        pytest.raises(BadFile, match="mask is a damaged or unreadable PNG"),
        picture_file.open_picture(encoded(Image.fromarray(RGB), "PNG"), "mask"),
    ):
        raise failure("of Pillow")
