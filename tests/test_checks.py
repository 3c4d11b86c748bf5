import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from petseg.conversion import checks

RNG = np.random.default_rng(0)
# Smooth, as photographs are: JPEG keeps it nearly as it is.
PICTURE = Image.fromarray(RNG.integers(0, 256, (4, 5, 3), np.uint8)).resize((50, 40))


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


JPEG = encoded(PICTURE, "JPEG", quality=90)
MASK = encoded(Image.fromarray(RNG.integers(1, 4, (40, 50), np.uint8)), "PNG")


def decode(content: bytes) -> np.ndarray:
    return tf.io.decode_jpeg(content, channels=3).numpy().astype(int)


def test_an_rgb_jpeg_keeps_its_bytes():
    for options in ({}, {"progressive": True}, {"subsampling": "4:4:4"}):
        content = encoded(PICTURE, "JPEG", **options)
        checked = checks.check_image(content)
        assert checked == checks.CheckedImage(content, 40, 50, repair=None)


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
    checked = checks.check_image(encoded(picture, kind, **options))
    assert reason in checked.repair
    assert "re-encoded as RGB JPEG of quality 95" in checked.repair
    assert (checked.height, checked.width) == (40, 50)
    difference = decode(checked.encoded) - np.asarray(picture.convert("RGB")).astype(int)
    assert np.abs(difference).mean() < 5
    assert checks.check_image(checked.encoded).repair is None


def test_transparent_parts_come_to_lie_over_white():
    clear = Image.new("RGBA", (16, 16), (10, 20, 30, 0))
    assert decode(checks.check_image(encoded(clear, "PNG")).encoded).min() > 250


def test_the_first_of_several_frames_is_taken_and_said():
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    checked = checks.check_image(content)
    assert "first of 2 frames" in checked.repair
    assert decode(checked.encoded)[8, 8, 0] > 240


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes"),
        (b"not a picture", "no known picture format"),
        (JPEG[: len(JPEG) // 2], "damaged JPEG"),
        (JPEG[:20], "damaged JPEG"),
        (encoded(PICTURE, "PNG")[:-200], "damaged or unreadable PNG"),
        (encoded(Image.new("I;16", (9, 9), 999), "PNG"), "pixels of mode I;16"),
        (encoded(PICTURE, "GIF")[:30], "damaged or unreadable GIF"),
    ],
)
def test_what_cannot_be_decoded_is_refused_with_the_reason(content, reason):
    with pytest.raises(checks.BadFile, match=reason):
        checks.check_image(content)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(JPEG) - 1), st.integers(1, 255), st.booleans())
@example(3, 1, False)
def test_a_damaged_image_is_refused_or_readable_by_training(place, change, cut):
    content = bytearray(JPEG[:place] if cut else JPEG)
    if not cut:
        content[place] ^= change
    try:
        checked = checks.check_image(bytes(content))
    except checks.BadFile:
        return
    assert decode(checked.encoded).shape == (checked.height, checked.width, 3)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(MASK) - 1), st.integers(1, 255), st.booleans())
def test_a_damaged_mask_is_refused_or_unchanged(place, change, cut):
    content = bytearray(MASK[:place] if cut else MASK)
    if not cut:
        content[place] ^= change
    try:
        checked = checks.check_mask(bytes(content), (1, 2, 3))
    except checks.BadFile:
        return
    # PNG's checksums leave no damage of the labels unseen.
    assert (tf.io.decode_png(checked.encoded).numpy() == tf.io.decode_png(MASK).numpy()).all()


def test_a_mask_keeps_its_bytes_and_its_labels_are_counted():
    labels = np.asarray(Image.open(io.BytesIO(MASK)))
    checked = checks.check_mask(MASK, (1, 2, 3))
    assert checked.encoded == MASK
    assert checked.repair is None
    assert (checked.height, checked.width) == (40, 50)
    assert checked.pixels_per_label == {v: int((labels == v).sum()) for v in (1, 2, 3)}


def test_a_palette_mask_is_stored_as_its_indices():
    labels = RNG.integers(1, 4, (9, 11), np.uint8)
    picture = Image.fromarray(labels)
    picture = picture.convert("P")
    picture.putdata(labels.ravel())
    picture.putpalette([7, 7, 7, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    checked = checks.check_mask(encoded(picture, "PNG"), (1, 2, 3))
    assert "palette" in checked.repair
    assert (tf.io.decode_png(checked.encoded, channels=1).numpy()[..., 0] == labels).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes"),
        (JPEG, r"not a PNG \(JPEG\)"),
        (encoded(PICTURE, "PNG"), "8 bits and colour type 2"),
        (encoded(Image.new("I;16", (4, 4), 1), "PNG"), "16 bits and colour type 0"),
        (encoded(Image.new("1", (4, 4), 1), "PNG"), "1 bits and colour type 0"),
        (MASK[:-30], "damaged PNG"),
        (MASK[:20], "expected 8 bits"),
        (encoded(Image.new("L", (4, 4), 7), "PNG"), "holds values 7; allowed are 1, 2, 3"),
    ],
)
def test_a_mask_of_another_kind_is_refused_with_the_reason(content, reason):
    with pytest.raises(checks.BadFile, match=reason):
        checks.check_mask(content, (1, 2, 3))
