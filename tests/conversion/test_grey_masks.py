"""What grey values mean, whatever the number of bits that a program stored them in."""

import io

import numpy as np
import pytest
from PIL import Image
from testing.conversion import encoded
from testing.grey_png import grey_png

from petseg.conversion import grey_masks, masks
from petseg.conversion.sources.base import MaskRules
from petseg.data.label_map import IGNORED, unnamed
from petseg.data.manifest import Finding
from petseg.data.picture_file import BadFile

RNG = np.random.default_rng(0)
ANY = MaskRules(None)
BLACK_AND_WHITE = MaskRules({0: "ground", 1: "thing"}, {(0, 0, 0): 0, (255, 255, 255): 1})
SWAPPED = MaskRules({85: "a", 0: "b"}, {(0, 0, 0): 85, (85, 85, 85): 0})


def checked(content: bytes | np.ndarray, rules: MaskRules, **options) -> masks.CheckedMask:
    if isinstance(content, np.ndarray):
        content = encoded(Image.fromarray(content.astype(np.uint8)), "PNG")
    return masks.check_mask(content, rules, **options)


def labels(mask: masks.CheckedMask) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(mask.encoded)))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_values_as_stored_are_the_labels_of_few_bits(bits):
    values = RNG.integers(0, 1 << bits, (9, 11))
    mask = checked(grey_png(values, bits), ANY)
    np.testing.assert_array_equal(labels(mask), values)
    assert mask.repair == (
        f"mask: PNG, {bits} bit{'s' * (bits > 1)}, stored as 0 "
        f"{'and 1' if bits == 1 else f'to {2**bits - 1}'}"
    )


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_mask_that_a_program_made_smaller_has_the_labels_it_had(bits):
    values = RNG.integers(0, 1 << bits, (9, 11))
    step = 255 // (2**bits - 1)
    rules = MaskRules({value: unnamed(value) for value in range(0, 256, step)})
    large, small = checked(values * step, rules), checked(grey_png(values, bits), rules)
    assert (small.encoded, small.pixels_per_label) == (
        masks.encode_mask(labels(large)),
        large.pixels_per_label,
    )
    np.testing.assert_array_equal(labels(small), values * step)
    how = "0 and 255" if bits == 1 else f"0 to 255 in steps of {step}"
    assert small.repair == f"mask: PNG, {bits} bit{'s' * (bits > 1)}, stored as {how}"


def test_an_ignored_255_does_not_make_white_of_one_bit_ignored():
    white = grey_png(np.ones((3, 4), int), 1)
    ignored = {0: "ground", 1: "thing", 255: IGNORED}
    assert checked(white, MaskRules(ignored, ignored=255)).pixels_per_label == {1: 12}


def test_a_tiff_of_four_bits_is_read_as_a_png_of_four_bits():
    values = RNG.integers(0, 16, (6, 8))
    eight = Image.fromarray(values.astype(np.uint8))
    content = bytearray(encoded(eight, "TIFF"))
    tags = Image.open(io.BytesIO(bytes(content))).tag_v2
    start = tags[273][0]
    packed = ((values[:, ::2] << 4) | values[:, 1::2]).astype(np.uint8).tobytes()
    content[start : start + len(packed)] = packed
    place = content.index((258).to_bytes(2, "little"), 8)
    content[place + 8 : place + 10] = (4).to_bytes(2, "little")
    mask = checked(bytes(content), ANY)
    np.testing.assert_array_equal(labels(mask), values)
    assert "TIFF, 4 bits, stored as 0 to 15" in mask.repair


@pytest.mark.parametrize("compression", ["jpeg", "tiff_lzw"])
def test_a_tiff_is_a_mask_unless_it_is_compressed_as_a_photograph(compression):
    values = RNG.integers(0, 3, (32, 32))
    content = encoded(Image.fromarray(values.astype(np.uint8)), "TIFF", compression=compression)
    if compression == "jpeg":
        with pytest.raises(BadFile, match=r"a way that blurs labels.*: TIFF, jpeg"):
            checked(content, ANY)
    else:
        np.testing.assert_array_equal(labels(checked(content, ANY)), values)


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "1 bit", "RGB"])
def test_grey_values_are_colours_where_they_are_no_ids(kind, decode):
    values = RNG.integers(0, 2, (9, 11))
    drawn = Image.fromarray((values * 255).astype(np.uint8))
    if kind == "1 bit":
        content = grey_png(values, 1)
    elif kind == "RGB":
        content = encoded(drawn.convert("RGB"), "PNG")
    else:
        content = encoded(drawn, kind)
    mask = checked(content, BLACK_AND_WHITE, decode=decode)
    np.testing.assert_array_equal(labels(mask), values)
    assert mask.pixels_per_label == {v: int((values == v).sum()) for v in (0, 1)}


def test_grey_values_are_ids_where_they_are_ids():
    values = RNG.integers(0, 2, (9, 11))
    content = encoded(Image.fromarray(values.astype(np.uint8)), "PNG")
    mask = checked(content, BLACK_AND_WHITE)
    assert (mask.encoded, mask.repair) == (content, None)
    with pytest.raises(BadFile, match="holds 255, which no class has"):
        checked(np.array([[0, 1, 255]]), BLACK_AND_WHITE)


def test_a_value_that_is_an_id_and_the_colour_of_another_class_is_not_guessed():
    for value in (0, 85):
        with pytest.raises(BadFile, match=f"ids and colours of different classes.*: {value}$"):
            checked(np.full((2, 2), value), SWAPPED)
    in_colours = np.array([[[0, 0, 0], [85, 85, 85]]])
    np.testing.assert_array_equal(labels(checked(in_colours, SWAPPED)), [[85, 0]])


def test_a_value_to_ignore_is_no_colour_of_a_class():
    names = {**BLACK_AND_WHITE.names, 255: IGNORED}
    rules = MaskRules(names, BLACK_AND_WHITE.values_of_colours, ignored=255)
    mask = checked(np.array([[0, 255, 255]]), rules)
    assert mask.pixels_per_label == {0: 1, 255: 2}
    np.testing.assert_array_equal(labels(mask), [[0, 255, 255]])


def test_masks_of_few_bits_among_masks_of_many_are_named():
    few = [Finding(str(n), "train", "mask: PNG, 1 bit, stored as 0 and 1") for n in range(3)]
    pixels, names = {0: 9, 1: 3, 255: 4}, {v: unnamed(v) for v in (0, 1, 255)}
    line = grey_masks.contradiction(few, names, pixels)
    assert line.startswith("3 masks of 1 bit hold values below 2, others 255, which may be")
    assert grey_masks.contradiction([], names, pixels) is None
    assert grey_masks.contradiction(few, names, {0: 9, 1: 3}) is None
    assert grey_masks.contradiction(few, {**names, 7: unnamed(7)}, {**pixels, 7: 2}) is None
    assert grey_masks.contradiction(few, {**names, 255: IGNORED}, pixels) is None
