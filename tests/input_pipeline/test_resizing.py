import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from petseg.data.label_map import IGNORE
from petseg.image_size import sides_of
from petseg.input_pipeline import resizing

SIDES = st.tuples(st.integers(1, 120), st.integers(1, 120))


def fit_plainly(stored, size, keep_aspect) -> tuple[int, int]:
    """The sides of an image within a size, by fractions."""
    scales = [Fraction(full, side) for full, side in zip(sides_of(size), stored, strict=True)]
    if keep_aspect:
        scales = [min(scales)] * 2
    rows, columns = (
        max(math.floor(scale * side + Fraction(1, 2)), 1)
        for scale, side in zip(scales, stored, strict=True)
    )
    return rows, columns


@settings(max_examples=200, deadline=None)
@given(SIDES, SIDES, st.booleans())
def test_an_image_is_as_large_as_its_size_allows(stored, size, keep_aspect):
    height, width = (tf.constant(side) for side in stored)
    fitted = tuple(int(side) for side in resizing.fitted(height, width, size, keep_aspect))
    assert fitted == fit_plainly(stored, size, keep_aspect)
    assert fitted[0] <= size[0] and fitted[1] <= size[1]
    assert (fitted == size) or (keep_aspect and (fitted[0] == size[0] or fitted[1] == size[1]))


@pytest.mark.parametrize("keep_aspect", [False, True])
@pytest.mark.parametrize("size", [32, (64, 96), (96, 64)])
@pytest.mark.parametrize("stored", [(40, 80), (80, 40), (150, 140), (64, 96)])
def test_whole_images_and_masks_agree_with_pillow_and_with_single_pixels(stored, size, keep_aspect):
    rng, sides = np.random.default_rng(0), sides_of(size)
    image = rng.integers(0, 256, (*stored, 3), np.uint8)
    raw = rng.integers(0, 9, stored, np.uint8)
    rows, columns = fit_plainly(stored, size, keep_aspect)
    expected = np.zeros((*sides, 3), int)
    pixels = Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR)
    expected[:rows, :columns] = pixels
    found = resizing.resize_image(tf.constant(image), size, keep_aspect).numpy()
    assert np.abs(found - expected).max() <= 2  # Pillow rounds after each of two passes
    mask = np.full(sides, IGNORE)
    for y, x in itertools.product(range(rows), range(columns)):
        row = (2 * y + 1) * stored[0] // (2 * rows)
        mask[y, x] = raw[row, (2 * x + 1) * stored[1] // (2 * columns)]
    found = resizing.resize_mask(tf.constant(raw), size, keep_aspect).numpy()
    np.testing.assert_array_equal(found, mask)


def test_masks_are_sampled_at_pixel_centres():
    # Eight columns of labels shown at four times their size, and back.
    small = np.arange(8, dtype=np.uint8).reshape(1, 8).repeat(8, 0)
    large = resizing.resize_mask(tf.constant(small), 32).numpy()
    assert (large == np.arange(8).repeat(4)).all()
    assert (resizing.resize_mask(tf.constant(large), 8).numpy() == small).all()
