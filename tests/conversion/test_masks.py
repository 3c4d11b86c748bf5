import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from testing.conversion import encoded

from petseg.conversion import masks
from petseg.conversion.sources.base import MaskRules
from petseg.data.picture_file import BadFile

RNG = np.random.default_rng(0)
PICTURE = Image.new("RGB", (50, 40), "teal")
JPEG = encoded(PICTURE, "JPEG")
MASK = encoded(Image.fromarray(RNG.integers(1, 4, (40, 50), np.uint8)), "PNG")


def with_size(width: int, height: int) -> bytes:
    """The mask with another size in its header, and the header's checksum right."""
    header = b"IHDR" + struct.pack(">II", width, height) + MASK[24:29]
    return MASK[:12] + header + struct.pack(">I", zlib.crc32(header)) + MASK[33:]


RULES = MaskRules({1: "pet", 2: "background", 3: "border"})


def decode(content: bytes) -> np.ndarray:
    return tf.io.decode_jpeg(content, channels=3).numpy().astype(int)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(MASK) - 1), st.integers(1, 255), st.booleans())
def test_a_damaged_mask_is_refused_or_unchanged(place, change, cut):
    content = bytearray(MASK[:place] if cut else MASK)
    if not cut:
        content[place] ^= change
    try:
        checked = masks.check_mask(bytes(content), RULES)
    except BadFile:
        return
    # PNG's checksums leave no damage of the labels unseen.
    assert (tf.io.decode_png(checked.encoded).numpy() == tf.io.decode_png(MASK).numpy()).all()


def test_a_mask_keeps_its_bytes_and_its_labels_are_counted():
    labels = np.asarray(Image.open(io.BytesIO(MASK)))
    checked = masks.check_mask(MASK, RULES)
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
    checked = masks.check_mask(encoded(picture, "PNG"), RULES)
    assert "palette" in checked.repair
    assert (tf.io.decode_png(checked.encoded, channels=1).numpy()[..., 0] == labels).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes"),
        (JPEG, r"not a PNG \(JPEG, which blurs labels"),
        (b"a text", r"not a PNG \(unknown\)"),
        (encoded(PICTURE, "PNG"), "mode RGB; give its colours in --classes"),
        (encoded(Image.new("F", (4, 4), 1), "TIFF"), "no 8-bit picture with one value a pixel"),
        (
            encoded(Image.fromarray(np.array([[0, 256, 999]], np.uint16)), "PNG"),
            r"not from 0 to 255, as labels are; .*--binary.*: 256 \(1 px\), 999 \(1 px\)",
        ),
        (encoded(Image.new("LA", (4, 4), (1, 254)), "PNG"), "transparent pixels"),
        (MASK[:-30], "damaged PNG"),
        (MASK[:-13], "damaged PNG"),
        (MASK[:20], "damaged or unreadable PNG"),
        (MASK[:16] + b"\0\1\0\0" * 2 + MASK[24:], "damaged PNG"),
        (with_size(100_000, 100_000), "claims 100,000x100,000 px"),
        (with_size(0, 5), "claims 0x5 px"),
        (
            encoded(Image.new("L", (4, 4), 7), "PNG"),
            r"no class has: 7 \(16 px\), first at row 0, column 0; allowed are 1, 2, 3",
        ),
    ],
)
def test_a_mask_of_another_kind_is_refused_with_the_reason(content, reason):
    with pytest.raises(BadFile, match=reason):
        masks.check_mask(content, RULES)


LABELS = RNG.integers(1, 4, (9, 11), np.uint8)


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
def test_other_lossless_formats_are_stored_as_png(kind):
    checked = masks.check_mask(encoded(Image.fromarray(LABELS), kind), RULES)
    assert kind in checked.repair
    assert (tf.io.decode_png(checked.encoded).numpy()[..., 0] == LABELS).all()


def test_a_stack_of_frames_is_no_mask():
    frames = [Image.fromarray(LABELS), Image.fromarray(LABELS * 0 + 1)]
    for kind in ("TIFF", "PNG"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        for decode in (True, False):
            with pytest.raises(BadFile, match=r"stack of frames.*as a file of its own: 2 frames"):
                masks.check_mask(content, RULES, decode=decode)


def test_smaller_copies_in_a_mask_are_noted():
    small = Image.fromarray(LABELS).resize((5, 4), Image.Resampling.NEAREST)
    content = encoded(Image.fromarray(LABELS), "TIFF", save_all=True, append_images=[small])
    checked = masks.check_mask(content, RULES)
    assert (tf.io.decode_png(checked.encoded).numpy()[..., 0] == LABELS).all()
    assert "first of 2 frames, the others being smaller copies" in checked.repair


def test_one_bit_masks_hold_0_and_1():
    labels = LABELS == 1
    content = encoded(Image.fromarray(labels), "PNG")
    checked = masks.check_mask(content, MaskRules(None))
    assert (tf.io.decode_png(checked.encoded).numpy()[..., 0] == labels).all()
    assert checked.pixels_per_label == {0: int((~labels).sum()), 1: int(labels.sum())}


COLOURS = {(0, 0, 0): 1, (255, 0, 10): 2, (9, 200, 255): 3}


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_tell_the_labels(mode):
    colour_of = {label: colour for colour, label in COLOURS.items()}
    pixels = np.array([[colour_of[v] for v in row] for row in LABELS.tolist()], np.uint8)
    picture = Image.fromarray(pixels)
    if mode == "P":
        picture = picture.quantize(8, dither=Image.Dither.NONE)
    content = encoded(picture.convert(mode), "PNG")
    checked = masks.check_mask(content, MaskRules({1: "a", 2: "b", 3: "c"}, COLOURS))
    assert (tf.io.decode_png(checked.encoded).numpy()[..., 0] == LABELS).all()
    assert checked.repair is None
    assert checked.pixels_per_label == {v: int((v == LABELS).sum()) for v in (1, 2, 3)}


def test_a_colour_that_no_class_has_is_named_with_its_place():
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[2, 3] = 1, 2, 255
    with pytest.raises(BadFile, match="#0102ff, first at row 2, column 3"):
        masks.check_mask(
            encoded(Image.fromarray(pixels), "PNG"), MaskRules({1: "a"}, {(0, 0, 0): 1})
        )


def reason_of(labels, rules) -> str:
    with pytest.raises(BadFile) as caught:
        masks.check_mask(encoded(Image.fromarray(np.asarray(labels, np.uint8)), "PNG"), rules)
    return str(caught.value)


def test_values_that_smoothed_edges_leave_are_told_from_a_void_and_from_a_wrong_one():
    rules = MaskRules({0: "ground", 1: "thing"})
    assert reason_of([[0, 1, 255, 255]], rules) == (
        "mask holds 255, which no class has; if it is void, --ignore_id=255: 255 (2 px), first "
        "at row 0, column 2; allowed are 0, 1"
    )
    assert reason_of([[0, 1, 7, 255]], rules) == (
        "mask holds values that no class has: 7 (1 px), 255 (1 px), first at row 0, "
        "column 2; allowed are 0, 1"
    )
    reason = reason_of([range(30)], rules)
    assert reason.startswith("mask holds many values that no class has, as smoothed edges give")
    assert reason.endswith("9 (1 px) and 20 more values, first at row 0, column 2")


def test_colours_that_smoothed_edges_leave_are_told_from_a_void():
    rules = MaskRules({0: "ground"}, {(0, 0, 0): 0})
    ramp = np.repeat(np.arange(12, dtype=np.uint8)[None, :, None], 3, -1)
    assert reason_of(ramp[:, :2], rules) == (
        "mask holds a colour that no class has; if it is void, give it an id in --classes and "
        "that id as --ignore_id: #010101, first at row 0, column 1"
    )
    assert reason_of(ramp[:, :3], rules) == (
        "mask holds colours that no class has: #010101, #020202, first at row 0, column 1"
    )
    reason = reason_of(ramp, rules)
    assert reason.startswith("mask holds many colours that no class has, as smoothed edges give")
    assert reason.endswith("#080808 and 3 more, first at row 0, column 1")


def test_transparent_pixels_have_no_class():
    with pytest.raises(BadFile, match="transparent"):
        masks.check_mask(
            encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 254)), "PNG"),
            MaskRules({1: "a"}, {(0, 0, 0): 1}),
        )


@given(st.binary(min_size=1, max_size=400), st.sets(st.integers(0, 255)))
def test_labels_are_counted_as_a_plain_loop_counts_them(content, allowed):
    labels = np.frombuffer(content, np.uint8)
    expected = {value: content.count(value) for value in sorted(set(content))}
    assert masks.count_labels(labels[None], MaskRules(None)) == expected
    rules = MaskRules(dict.fromkeys(allowed, "x"))
    if set(content) <= allowed:
        assert masks.count_labels(labels[None], rules) == expected
    else:
        with pytest.raises(BadFile):
            masks.count_labels(labels[None], rules)


def test_headers_alone_keep_the_bytes_and_count_nothing():
    checked = masks.check_mask(MASK, RULES, decode=False)
    assert checked == masks.CheckedMask(MASK, 40, 50, {})
    with pytest.raises(BadFile):
        masks.check_mask(MASK[:-30], RULES, decode=False)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 256), st.integers(0, 2**31))
def test_an_encoded_mask_is_read_back_by_every_reader(height, width, values, seed):
    labels = np.random.default_rng(seed).integers(0, values, (height, width)).astype(np.uint8)
    content = masks.encode_mask(labels)
    assert (tf.io.decode_png(content, channels=1).numpy()[..., 0] == labels).all()
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        assert picture.mode == "L" and (np.asarray(picture) == labels).all()
    with Image.open(io.BytesIO(content)) as picture:
        picture.verify()  # the checksums
    # It counts as good when it is converted again, and keeps its bytes.
    again = masks.check_mask(content, MaskRules(None))
    assert again.encoded == content and again.repair is None


def read_labels(mask: masks.CheckedMask) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(mask.encoded)))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32))
def test_grey_stored_as_rgb_is_read_as_its_values(height, width, seed):
    labels = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    grey = Image.fromarray(labels)
    for mode, kind in [
        *(("RGB", kind) for kind in ("PNG", "BMP", "TIFF")),
        *(("RGBA", kind) for kind in ("PNG", "TIFF")),
        ("LA", "PNG"),
    ]:
        mask = masks.check_mask(encoded(grey.convert(mode), kind), MaskRules(None))
        np.testing.assert_array_equal(read_labels(mask), labels)
        assert mask.repair == f"mask: {kind}, grey of mode {mode}, stored as its values"


def test_grey_stored_as_rgb_must_be_opaque_and_grey_throughout():
    with pytest.raises(BadFile, match="transparent pixels"):
        masks.check_mask(encoded(Image.new("RGBA", (4, 4), (1, 1, 1, 9)), "PNG"), RULES)
    almost = np.ones((4, 4, 3), np.uint8)
    almost[2, 3, 1] = 2
    with pytest.raises(masks.NeedsColours, match="give its colours in --classes"):
        masks.check_mask(encoded(Image.fromarray(almost), "PNG"), RULES)


def test_a_gif_is_its_indices_and_by_its_colours_with_a_class_file():
    labels = RNG.integers(0, 3, (9, 11), np.uint8)
    picture = Image.frombytes("P", (11, 9), labels.tobytes())
    picture.putpalette([9, 9, 9, 255, 0, 0, 0, 0, 255])
    content = encoded(picture, "GIF")
    colours = {(9, 9, 9): 1, (255, 0, 0): 2, (0, 0, 255): 3}
    np.testing.assert_array_equal(
        read_labels(masks.check_mask(content, MaskRules(RULES.names, colours))), labels + 1
    )
    stack = encoded(picture, "GIF", save_all=True, append_images=[picture.rotate(180)])
    with pytest.raises(BadFile, match="stack of frames"):
        masks.check_mask(stack, MaskRules(None))


@pytest.mark.parametrize("decode", [True, False])
def test_several_values_of_a_class_are_stored_as_the_first(decode):
    rules = MaskRules({0: "wall", 3: "crack"}, stored_as={4: 3, 255: 3})
    labels = RNG.choice(np.array([0, 3, 4, 255], np.uint8), (9, 11))
    for kind in ("PNG", "BMP"):
        mask = masks.check_mask(encoded(Image.fromarray(labels), kind), rules, decode=decode)
        expected = np.where(labels == 0, 0, 3)
        np.testing.assert_array_equal(read_labels(mask), expected)
        assert mask.pixels_per_label == {v: int((expected == v).sum()) for v in (0, 3)}
    plain = encoded(Image.fromarray(labels & 3), "PNG")
    assert masks.check_mask(plain, rules, decode=decode).encoded == plain
    with pytest.raises(
        BadFile,
        match=r"holds values .*: 5 \(1 px\), first at row 0, column 0; allowed are 0, 3, 4, 255",
    ):
        masks.check_mask(encoded(Image.fromarray(np.array([[5]], np.uint8)), "PNG"), rules)


def test_one_bit_is_a_class_of_several_values():
    one_bit = encoded(Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1"), "PNG")
    for rules in (
        MaskRules({0: "wall", 3: "crack"}, stored_as={255: 3, 1: 3}),
        MaskRules({0: "wall", 255: "crack"}),
    ):
        crack = max(rules.names)
        assert read_labels(masks.check_mask(one_bit, rules)).tolist() == [[0, crack]]


def test_a_mask_whose_white_is_the_class_names_the_flag_for_one_class():
    content = encoded(Image.fromarray(np.array([[0, 255]], np.uint8)), "PNG")
    with pytest.raises(BadFile, match=r"if it is void, --ignore_id=255, .* --binary"):
        masks.check_mask(content, MaskRules({0: "a", 1: "b"}))
