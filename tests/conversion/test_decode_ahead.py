"""What is decoded ahead is what single pictures decode to; the rest is left to their checks."""

import io
import random
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from petseg.conversion import decode_ahead as ahead
from petseg.conversion import masks
from petseg.conversion.decode_ahead import PAIRS_AT_ONCE, UNKNOWN, decode_ahead
from petseg.conversion.sources.base import MaskRules
from petseg.data import jpeg, record

RULES = MaskRules(names={0: "a", 1: "b"})


def jpeg_of(rng, height=40, width=24, mode="RGB"):
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, shape, np.uint8), mode).save(out, "JPEG")
    return out.getvalue()


def mask_of(rng, height=40, width=24):
    return masks.encode_mask(rng.integers(0, 2, (height, width), np.uint8))


@pytest.mark.parametrize("count", [1, 3, PAIRS_AT_ONCE])
def test_pictures_of_several_sizes_decode_as_they_do_alone(count):
    rng = np.random.default_rng(count)
    pairs = [(jpeg_of(rng, 16 + i, 90 - i), mask_of(rng, 9 + i, 7)) for i in range(count)]
    decoded = decode_ahead(pairs, RULES)
    assert len(decoded) == count
    for (image, mask), known in zip(pairs, decoded, strict=True):
        np.testing.assert_array_equal(known.image, jpeg.decode_small(image))
        np.testing.assert_array_equal(known.mask, record.decode_mask(mask)[..., 0])


def test_what_is_special_is_left_to_the_checks_of_one_picture():
    rng = np.random.default_rng(0)
    image, mask = jpeg_of(rng), mask_of(rng)
    grey, palette = jpeg_of(rng, mode="L"), io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).convert("P").save(palette, "PNG")
    pairs = [(), (grey, mask), (image, palette.getvalue()), (image, mask, mask), (b"", b"")]
    decoded = decode_ahead(pairs, RULES)
    known = [(one.image is not None, one.mask is not None) for one in decoded]
    assert known == [(False, False), (False, True), (True, False), (True, False), (False, False)]
    assert decode_ahead(pairs[:1], RULES) == [UNKNOWN]
    binary = MaskRules(names={0: "a", 1: "b"}, threshold=128)
    assert decode_ahead([(image, mask)], binary)[0].mask is None


def test_large_pictures_are_not_held_together(monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(ahead, "_MAX_PIXELS", 40 * 24)
    pairs = [(jpeg_of(rng), mask_of(rng)), (jpeg_of(rng, 41), mask_of(rng, 41))]
    small, large = decode_ahead(pairs, RULES)
    assert small.image is not None and small.mask is not None and large == UNKNOWN


def test_damage_makes_nothing_known_and_is_found_by_the_check_of_the_picture():
    seed = random.SystemRandom().randrange(1 << 30)
    print("seed", seed)
    rng, chance = np.random.default_rng(seed), random.Random(seed)
    for _ in range(40):
        pairs = [(jpeg_of(rng), mask_of(rng)) for _ in range(4)]
        hit, which = chance.randrange(4), chance.randrange(2)
        damaged = bytearray(pairs[hit][which])
        position = chance.randrange(len(damaged) // 2, len(damaged))
        damaged[position:] = damaged[position:][: chance.randrange(20)]
        pairs[hit] = tuple(
            bytes(damaged) if i == which else one for i, one in enumerate(pairs[hit])
        )
        for (image, mask), known in zip(pairs, decode_ahead(pairs, RULES), strict=True):
            if known.image is not None:
                np.testing.assert_array_equal(known.image, jpeg.decode_small(image))
            if known.mask is not None:
                np.testing.assert_array_equal(known.mask, record.decode_mask(mask)[..., 0])


def test_a_picture_that_decodes_with_a_complaint_is_not_known():
    rng, found = np.random.default_rng(0), 0
    for _ in range(200):
        image, mask = jpeg_of(rng), mask_of(rng)
        place = int(rng.integers(len(image) // 2, len(image) - 40))
        damaged = image[:place] + image[place + 8 :]
        try:
            tf.io.decode_jpeg(damaged, channels=1, ratio=8)
        except tf.errors.InvalidArgumentError:
            continue
        try:
            jpeg.decode_small(damaged)
        except jpeg.DamagedJpeg:
            found += 1
            assert decode_ahead([(damaged, mask), (image, mask)], RULES) == [UNKNOWN] * 2
    assert found > 5


@pytest.mark.slow
def test_complaints_are_not_printed():
    code = """
import io
import numpy as np
from PIL import Image
from petseg.conversion.decode_ahead import UNKNOWN, decode_ahead
from petseg.conversion.sources.base import MaskRules

noise, out = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), io.BytesIO()
Image.fromarray(noise).save(out, "JPEG")
whole = out.getvalue()
assert decode_ahead([(whole[:2000], b""), (whole, b"")], MaskRules(None)) == [UNKNOWN] * 2
assert decode_ahead([(whole, b""), (whole, b"")], MaskRules(None))[0].image is not None
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0 and "JPEG" not in done.stderr, done.stderr
