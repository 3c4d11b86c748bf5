"""Smaller pictures: the image keeps what it shows, and its mask lies where it lay."""

import io

import numpy as np
import pytest
from PIL import Image
from testing.conversion import encoded

from petseg.conversion import downscale, masks
from petseg.conversion.images import CheckedImage
from petseg.conversion.sources.base import MaskRules

ANY = MaskRules(None)


def drawn(height: int, width: int) -> np.ndarray:
    """Waves with edges, uint8 [height, width, 3]; no noise."""
    rows, columns = np.mgrid[:height, :width] / 90
    waves = [np.sin(rows + 2 * columns), np.cos(rows * columns / 9), np.sin(columns)]
    picture = np.stack(waves, -1) * 60 + 160
    picture[height // 4 : height // 2, width // 3 : width // 2] = (20, 200, 90)
    return picture.astype(np.uint8)


def smaller(picture: np.ndarray, short_side: int) -> tuple[CheckedImage, np.ndarray, np.ndarray]:
    """Returns the new image, its pixels and those of its mask, which is the picture's square."""
    height, width = picture.shape[:2]
    truth = (picture == (20, 200, 90)).all(-1).astype(np.uint8)
    image = CheckedImage(encoded(Image.fromarray(picture), "JPEG", quality=95), height, width, None)
    mask = masks.CheckedMask(masks.encode_mask(truth), height, width, {})
    image, mask = downscale.make_smaller(image, mask, ANY, short_side, 100)
    pixels = np.asarray(Image.open(io.BytesIO(image.encoded)))
    return image, pixels, np.asarray(Image.open(io.BytesIO(mask.encoded)))


@pytest.mark.parametrize(("height", "width"), [(1200, 1600), (1203, 1597), (1601, 1199)])
@pytest.mark.parametrize("short_side", [100, 150, 300, 601])
def test_a_picture_is_as_lanczos_makes_it_of_all_pixels(height, width, short_side):
    picture = drawn(height, width)
    image, pixels, _ = smaller(picture, short_side)
    size = (image.width, image.height)
    assert min(size) == short_side
    exact = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
    error = ((pixels.astype(float) - exact) ** 2).mean()
    assert 10 * np.log10(255**2 / error) > 34  # dB


@pytest.mark.parametrize("short_side", [64, 150, 300])
def test_an_image_and_its_mask_are_not_shifted(short_side):
    _, pixels, mask = smaller(drawn(1203, 1597), short_side)
    green = pixels[..., 0] < 60
    places = [np.argwhere(found).mean(0) for found in (green, mask == 1)]
    assert np.abs(places[0] - places[1]).max() < 0.5


def test_what_is_small_enough_keeps_its_bytes():
    picture = drawn(60, 80)
    content = encoded(Image.fromarray(picture), "JPEG")
    image = CheckedImage(content, 60, 80, None)
    mask = masks.CheckedMask(masks.encode_mask(picture[..., 0]), 60, 80, {})
    assert downscale.make_smaller(image, mask, ANY, 60, 95) == (image, mask)
