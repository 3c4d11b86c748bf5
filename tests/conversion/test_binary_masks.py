"""Masks of one class: a random truth comes back from every kind of file that may hold it."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from testing.conversion import encoded
from testing.grey_png import grey_png

from petseg.conversion import masks
from petseg.conversion.class_file import read_mask_rules
from petseg.data.picture_file import BadFile

RNG = np.random.default_rng(0)
BINARY = read_mask_rules("", None, is_binary=True)
FROM_128 = read_mask_rules("", None, threshold=128)


def labels(content: bytes, rules) -> np.ndarray:
    mask = masks.check_mask(content, rules)
    read = np.asarray(Image.open(io.BytesIO(mask.encoded)))
    assert mask.pixels_per_label == {v: n for v in (0, 1) if (n := int((read == v).sum()))}
    assert mask.repair is None
    return read


def palette_picture(truth: np.ndarray, colours: list[int]) -> Image.Image:
    picture = Image.frombytes("P", truth.shape[::-1], truth.astype(np.uint8).tobytes())
    picture.putpalette(colours)
    return picture


def files_of(truth: np.ndarray) -> dict[str, bytes]:
    """Files of all kinds that show a truth of zeros and ones in black and white."""
    white = (truth * 255).astype(np.uint8)
    grey = Image.fromarray(white)
    swapped = palette_picture(1 - truth, [255, 255, 255, 0, 0, 0])
    npy = io.BytesIO()
    np.save(npy, truth.astype(bool))
    return {
        "0 and 255": encoded(grey, "PNG"),
        "RGB": encoded(grey.convert("RGB"), "PNG"),
        "RGBA": encoded(grey.convert("RGBA"), "PNG"),
        "LA": encoded(grey.convert("LA"), "PNG"),
        "1 bit": grey_png(truth, 1),
        "1 bit BMP": encoded(grey.convert("1"), "BMP"),
        "1 bit TIFF": encoded(grey.convert("1"), "TIFF", compression="group4"),
        "palette": encoded(swapped, "PNG"),
        "GIF": encoded(grey, "GIF"),
        "GIF with a palette": encoded(swapped, "GIF"),
        "BMP": encoded(grey.convert("RGB"), "BMP"),
        "16 bits": encoded(Image.fromarray((truth * 65535).astype(np.uint16)), "PNG"),
    }


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32))
def test_black_and_white_is_read_from_every_kind_of_file(height, width, seed):
    truth = np.random.default_rng(seed).integers(0, 2, (height, width))
    for kind, content in files_of(truth).items():
        for rules in (BINARY, FROM_128):
            np.testing.assert_array_equal(labels(content, rules), truth, kind)
    npy = io.BytesIO()
    np.save(npy, truth.astype(bool))
    for content in (encoded(Image.fromarray(truth.astype(np.uint8)), "PNG"), npy.getvalue()):
        np.testing.assert_array_equal(labels(content, BINARY), truth)
        assert not labels(content, FROM_128).any()


def test_every_value_but_zero_is_the_class_and_with_a_threshold_those_from_there_on():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    content = encoded(Image.fromarray(values), "PNG")
    np.testing.assert_array_equal(labels(content, BINARY), values > 0)
    np.testing.assert_array_equal(labels(content, FROM_128), values >= 128)
    rules = read_mask_rules("", None, threshold=1000)
    deep = np.array([[0, 999, 1000, 65535]], np.uint16)
    np.testing.assert_array_equal(
        labels(encoded(Image.fromarray(deep), "PNG"), rules), [[0, 0, 1, 1]]
    )


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_lossy_masks_are_read_only_with_a_threshold(kind, mode):
    truth = np.zeros((64, 64), int)
    truth[8:40, 16:48] = 1
    content = encoded(Image.fromarray((truth * 255).astype(np.uint8)).convert(mode), kind)
    np.testing.assert_array_equal(labels(content, FROM_128), truth)
    for rules in (BINARY, masks.MaskRules(None)):
        with pytest.raises(BadFile, match=r"blurs labels.*read with --threshold=128"):
            masks.check_mask(content, rules)


def test_a_value_to_ignore_is_no_part_of_the_class():
    rules = read_mask_rules("", 100, is_binary=True)
    content = encoded(Image.fromarray(np.array([[0, 100, 101, 255]], np.uint8)), "PNG")
    mask = masks.check_mask(content, rules)
    assert mask.pixels_per_label == {0: 1, 1: 2, 100: 1}
    assert np.asarray(Image.open(io.BytesIO(mask.encoded))).tolist() == [[0, 100, 1, 1]]
    assert masks.merge_names(rules, {}) == {0: "background", 1: "foreground", 100: "ignored"}


def test_the_values_of_a_class_file_are_stored(tmp_path):
    (tmp_path / "c.csv").write_text("7,skin\n9,mole\n")
    rules = read_mask_rules(str(tmp_path / "c.csv"), None, is_binary=True)
    mask = masks.check_mask(grey_png(np.array([[0, 1]]), 1), rules)
    assert mask.pixels_per_label == {7: 1, 9: 1}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (encoded(Image.new("RGB", (4, 3), (9, 9, 8)), "PNG"), "colours.*: #090908 at row 0"),
        (encoded(palette_picture(np.ones((2, 2)), [0, 0, 0, 255, 0, 0]), "PNG"), "#ff0000"),
        (encoded(Image.new("RGBA", (4, 3), (9, 9, 9, 0)), "PNG"), "transparent"),
        (encoded(Image.new("F", (4, 3)), "TIFF"), "no picture of grey values"),
        (encoded(Image.new("RGB", (64, 64), "red"), "JPEG"), "colours"),
        (encoded(Image.new("CMYK", (64, 64), "red"), "JPEG"), "no picture of grey values"),
    ],
)
def test_what_has_colours_is_no_mask_of_one_class(content, told):
    with pytest.raises(BadFile, match=told):
        masks.check_mask(content, FROM_128)


def test_a_turned_photograph_is_no_mask():
    exif = Image.Exif()
    exif[0x0112] = 6
    with pytest.raises(BadFile, match="mask has EXIF orientation 6"):
        masks.check_mask(encoded(Image.new("L", (9, 8)), "JPEG", exif=exif), FROM_128)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_file_of_any_kind_is_refused_or_has_its_size(data):
    truth = np.random.default_rng(0).integers(0, 2, (9, 11))
    files = files_of(truth)
    files["JPEG"] = encoded(Image.fromarray((truth * 255).astype(np.uint8)), "JPEG")
    content = bytearray(files[data.draw(st.sampled_from(sorted(files)))])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    rules = data.draw(st.sampled_from([BINARY, FROM_128, masks.MaskRules(None)]))
    try:
        mask = masks.check_mask(bytes(content), rules)
    except BadFile:
        return
    assert np.asarray(Image.open(io.BytesIO(mask.encoded))).shape == (mask.height, mask.width)
