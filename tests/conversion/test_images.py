import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from testing.conversion import encoded

from petseg.conversion import images
from petseg.data.image_range import ImageRange
from petseg.data.picture_file import BadFile

RNG = np.random.default_rng(0)
# Smooth, as photographs are: JPEG keeps it nearly as it is.
PICTURE = Image.fromarray(RNG.integers(0, 256, (4, 5, 3), np.uint8)).resize((50, 40))


JPEG = encoded(PICTURE, "JPEG", quality=90)


def decode(content: bytes) -> np.ndarray:
    return tf.io.decode_jpeg(content, channels=3).numpy().astype(int)


def test_an_rgb_jpeg_keeps_its_bytes():
    for options in ({}, {"progressive": True}, {"subsampling": "4:4:4"}):
        content = encoded(PICTURE, "JPEG", **options)
        checked = images.check_image(content)
        assert checked == images.CheckedImage(content, 40, 50, repair=None)


@pytest.mark.parametrize(
    ("kind", "mode", "reason"),
    [
        ("PNG", "RGB", "PNG, mode RGB"),
        ("PNG", "RGBA", "PNG, mode RGBA"),
        ("PNG", "L", "PNG, mode L"),
        ("GIF", "P", "GIF, mode P"),
        ("BMP", "RGB", "BMP, mode RGB"),
        ("WEBP", "RGB", "WebP, mode RGB"),
        ("JPEG", "L", "JPEG, mode L"),
        ("JPEG", "CMYK", "JPEG, mode CMYK"),
        ("TIFF", "RGB", "TIFF, mode RGB"),
    ],
)
def test_other_pictures_become_rgb_jpegs_that_look_the_same(kind, mode, reason):
    picture = PICTURE.convert(mode)
    options = {"lossless": True} if kind == "WEBP" else {}
    checked = images.check_image(encoded(picture, kind, **options))
    assert reason in checked.repair
    assert "re-encoded as RGB JPEG of quality 95" in checked.repair
    assert (checked.height, checked.width) == (40, 50)
    difference = decode(checked.encoded) - np.asarray(picture.convert("RGB")).astype(int)
    assert np.abs(difference).mean() < 5
    assert images.check_image(checked.encoded).repair is None


def test_transparent_parts_come_to_lie_over_white():
    clear = Image.new("RGBA", (16, 16), (10, 20, 30, 0))
    assert decode(images.check_image(encoded(clear, "PNG")).encoded).min() > 250


def test_a_picture_of_16_bits_looks_as_the_same_one_of_8():
    deep = np.asarray(PICTURE.convert("L")).astype(np.uint16) * 257
    for kind in ("PNG", "TIFF"):
        checked = images.check_image(encoded(Image.fromarray(deep), kind))
        assert f"{kind}, mode I;16, re-encoded as RGB JPEG" in checked.repair
        difference = decode(checked.encoded) - deep[..., None] // 257
        assert np.abs(difference).mean() < 2


def test_a_tiff_that_pillow_turns_is_not_turned_again():
    content = with_orientation(6, "TIFF")
    checked = images.check_image(content)
    assert (checked.height, checked.width, checked.orientation) == (50, 40, 1)
    assert images.fit_to_mask(checked, content, 50, 40) == checked


def test_the_first_of_several_frames_is_taken_and_said():
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    checked = images.check_image(content)
    assert "first of 2 frames" in checked.repair
    assert decode(checked.encoded)[8, 8, 0] > 240


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes"),
        (b"not a picture", "no picture that petseg reads"),
        (JPEG[: len(JPEG) // 2], "damaged JPEG"),
        (JPEG[:20], "damaged or unreadable JPEG"),
        (encoded(PICTURE, "PNG")[:-200], "damaged or unreadable PNG"),
        (
            encoded(Image.new("F", (9, 9), 0.5), "TIFF"),
            "mode F, whose range is not known",
        ),
        (encoded(PICTURE, "GIF")[:30], "damaged or unreadable GIF"),
    ],
)
def test_what_cannot_be_decoded_is_refused_with_the_reason(content, reason):
    with pytest.raises(BadFile, match=reason):
        images.check_image(content)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(JPEG) - 1), st.integers(1, 255), st.booleans())
@example(3, 1, False)
def test_a_damaged_image_is_refused_or_readable_by_training(place, change, cut):
    content = bytearray(JPEG[:place] if cut else JPEG)
    if not cut:
        content[place] ^= change
    try:
        checked = images.check_image(bytes(content))
    except BadFile:
        return
    assert decode(checked.encoded).shape == (checked.height, checked.width, 3)


ORIENTATION = 0x0112


def with_orientation(orientation: int, kind: str = "JPEG", picture: Image.Image = PICTURE) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(picture, kind, exif=exif)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_an_image_on_its_side_is_turned_as_its_mask_is(kind, orientation):
    content = with_orientation(orientation, kind)
    checked = images.check_image(content)
    assert checked.orientation == orientation
    stored = images.fit_to_mask(checked, content, 40, 50)
    assert stored == checked
    turned = images.fit_to_mask(checked, content, 50, 40)
    assert (turned.height, turned.width) == (50, 40)
    assert f"turned upright (EXIF orientation {orientation})" in turned.repair
    # Independently of Pillow: what each orientation does to rows and columns.
    pixels = np.asarray(PICTURE).astype(int)
    upright = {
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: np.rot90(pixels.transpose(1, 0, 2), 2),
        8: np.rot90(pixels),
    }[orientation]
    assert np.abs(decode(turned.encoded) - upright).mean() < 6
    with pytest.raises(BadFile, match="mask is 50x41 px, its image 50x40"):
        images.fit_to_mask(checked, content, 41, 50)


@pytest.mark.parametrize("orientation", [2, 3, 4, 6])
def test_a_mask_that_fits_both_ways_is_refused(orientation):
    picture = PICTURE.resize((40, 40)) if orientation == 6 else PICTURE
    content = with_orientation(orientation, picture=picture)
    checked = images.check_image(content)
    with pytest.raises(BadFile, match=f"EXIF orientation {orientation} and its mask fits"):
        images.fit_to_mask(checked, content, checked.height, checked.width)


def test_upright_exif_changes_nothing():
    content = with_orientation(1)
    checked = images.check_image(content)
    assert checked == images.CheckedImage(content, 40, 50, repair=None)
    assert images.fit_to_mask(checked, content, 40, 50) == checked


def test_a_decompression_bomb_is_refused_by_its_header():
    place = JPEG.index(b"\xff\xc0") + 5
    bomb = JPEG[:place] + b"\xff\xff\xff\xff" + JPEG[place + 4 :]
    with pytest.raises(BadFile, match="claims 65,535x65,535 px"):
        images.check_image(bomb)
    frame = Image.new("L", (20_000, 20_000))
    with pytest.raises(BadFile, match="pixels"):
        images.check_image(encoded(frame, "PNG"))


def test_headers_alone_find_what_is_no_picture():
    assert images.check_image(JPEG, decode=False).encoded == JPEG
    assert images.check_image(JPEG[:-100], decode=False).encoded == JPEG[:-100]
    for content in (b"", b"text", JPEG[:30]):
        with pytest.raises(BadFile):
            images.check_image(content, decode=False)


def test_data_missing_in_the_middle_are_found_though_the_decoder_goes_on(capfd):
    scan = JPEG.index(b"\xff\xda") + 14
    content = JPEG[: scan + 100] + JPEG[scan + 400 :]
    assert tf.io.decode_jpeg(content).shape == (40, 50, 3)
    capfd.readouterr()
    with pytest.raises(BadFile, match=r"damaged JPEG: (premature end|\d+ extraneous|bad Huffman)"):
        images.check_image(content)
    assert capfd.readouterr().err == ""


def test_a_photo_with_a_small_copy_behind_it_keeps_its_bytes():
    tag = Image.Exif()
    tag[0x0112] = 6
    small = PICTURE.resize((10, 8))
    content = encoded(PICTURE, "MPO", save_all=True, append_images=[small], exif=tag)
    checked = images.check_image(content)
    assert checked == images.CheckedImage(content, 40, 50, repair=None, orientation=6)
    turned = images.fit_to_mask(checked, content, 50, 40)
    assert decode(turned.encoded).shape == (50, 40, 3)


def test_a_damaged_second_page_costs_nothing():
    content = bytearray(encoded(PICTURE, "TIFF"))
    start = int.from_bytes(content[4:8], "little")
    entries = int.from_bytes(content[start : start + 2], "little")
    next_page = start + 2 + 12 * entries
    content[next_page : next_page + 4] = len(content).to_bytes(4, "little")
    checked = images.check_image(bytes(content + bytes(6)))  # a page without a tag
    assert (checked.height, checked.width) == (40, 50)
    np.testing.assert_allclose(decode(checked.encoded), np.asarray(PICTURE), atol=30)


@pytest.mark.parametrize(("values", "word"), [((5000, 65535), "white"), ((0, 99), "black")])
def test_an_image_wholly_outside_the_range_is_named(values, word):
    grey = np.linspace(*values, 40).round().astype(np.uint16).reshape(5, 8)
    content = encoded(Image.fromarray(grey), "PNG")
    with pytest.raises(BadFile) as raised:
        images.check_image(content, value_range=ImageRange(100, 4095))
    low, high = values
    assert str(raised.value) == (
        f"image is {word} throughout by --image_range=100,4095: its values are {low} to {high}"
    )
