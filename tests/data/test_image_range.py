"""Pictures of more than 8 bits: a stated range, or the percentiles of each."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from testing.conversion import encoded

from petseg.data import picture_file
from petseg.data.image_range import ImageRange, parse_image_range
from petseg.data.picture_file import BadFile
from petseg.errors import UserError

RNG = np.random.default_rng(0)


def upright(content: bytes, value_range: ImageRange) -> np.ndarray:
    with picture_file.open_picture(content, "image") as picture:
        array = picture_file.to_upright_array(picture, value_range)
        as_picture = np.asarray(picture_file.to_rgb(picture, value_range))
    np.testing.assert_array_equal(array, as_picture)
    assert (array == array[..., :1]).all()
    return array[..., 0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0,4095", ImageRange(0, 4095)),
        ("-1.5, 2e3", ImageRange(-1.5, 2000)),
        ("1%,99%", ImageRange(1, 99, True)),
        ("0.5%,100%", ImageRange(0.5, 100, True)),
    ],
)
def test_a_range_is_two_numbers_or_two_percentiles(text, expected):
    found = parse_image_range(text)
    assert found == expected == parse_image_range(found.spec())
    assert parse_image_range("") is None
    assert parse_image_range("0,4095").spec() == "0,4095"


@pytest.mark.parametrize(
    "text", ["4095", "0,1,2", "a,b", "5,5", "9,3", "1%,9", "50%,40%", "0%,101%", "nan,1", "1..2,3"]
)
def test_any_other_range_is_refused(text):
    with pytest.raises(UserError, match="--image_range="):
        parse_image_range(text)


@settings(max_examples=100, deadline=None)
@given(
    st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.sampled_from([np.uint16, np.int32, np.float32])
)
def test_a_stated_range_is_scaled_to_0_to_255(low, width, dtype):
    values = RNG.uniform(low - width, low + 2 * width, (5, 7)).clip(0, 65535).astype(dtype)
    found = upright(encoded(Image.fromarray(values), "TIFF"), ImageRange(low, low + width))
    exact = np.clip((values.astype(float) - low) / width, 0, 1) * 255
    assert np.abs(found - exact).max() <= 0.5 + 1e-6


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 49), st.integers(51, 100), st.sampled_from([np.uint16, np.int32, np.float32]))
def test_percentiles_are_those_of_the_picture(first, second, dtype):
    values = RNG.integers(0, 5000, (5, 7)).astype(dtype)
    found = upright(
        encoded(Image.fromarray(values), "TIFF"), parse_image_range(f"{first}%,{second}%")
    )
    ordered = np.sort(values.ravel()).astype(float)
    low, high = (ordered[max(int(np.ceil(p / 100 * 35)) - 1, 0)] for p in (first, second))
    assume(low < high)
    exact = np.clip((values - low) / (high - low), 0, 1) * 255
    assert np.abs(found - exact).max() <= 0.5 + 1e-6


def test_what_is_no_number_is_black_and_changes_no_percentile():
    values = np.array([[np.nan, 0, 1, 2, np.inf, -np.inf, 4]], np.float32)
    content = encoded(Image.fromarray(values), "TIFF")
    assert upright(content, ImageRange(0, 4)).tolist() == [[0, 0, 64, 128, 255, 0, 255]]
    assert upright(content, ImageRange(0, 100, True)).tolist() == [[0, 0, 64, 128, 255, 0, 255]]
    nothing = encoded(Image.fromarray(np.full((2, 2), np.nan, np.float32)), "TIFF")
    assert not upright(nothing, ImageRange(1, 99, True)).any()
    same = encoded(Image.fromarray(np.full((2, 2), 7, np.uint16)), "PNG")
    assert not upright(same, ImageRange(1, 99, True)).any()


def test_percentiles_are_of_the_whole_picture_though_it_is_converted_in_strips(monkeypatch):
    values = np.arange(60, dtype=np.uint16).reshape(12, 5) * 1000
    content = encoded(Image.fromarray(values), "PNG")
    whole = upright(content, ImageRange(0, 100, True))
    assert (whole.min(), whole.max()) == (0, 255)
    monkeypatch.setattr(picture_file, "_STRIP_PIXELS", 10)
    np.testing.assert_array_equal(upright(content, ImageRange(0, 100, True)), whole)


def test_white_that_is_zero_and_a_transparent_value_stay_what_they_are():
    values = np.array([[0, 40, 100]], np.uint16)
    inverted = encoded(Image.fromarray(values), "TIFF", tiffinfo={262: 0})
    assert upright(inverted, ImageRange(0, 100)).tolist() == [[255, 153, 0]]
    clear = encoded(Image.fromarray(values), "PNG", transparency=40)
    assert upright(clear, ImageRange(0, 100)).tolist() == [[0, 255, 255]]


def test_pictures_of_8_bits_are_as_without_a_range():
    grey = RNG.integers(0, 256, (5, 7)).astype(np.uint8)
    content = encoded(Image.fromarray(grey), "PNG")
    np.testing.assert_array_equal(upright(content, ImageRange(0, 10)), grey)


def test_16_bits_of_several_channels_are_refused_for_what_would_be_lost():
    tags = {258: (16, 16, 16), 262: 2, 277: 3}
    deep = Image.fromarray(RNG.integers(0, 1 << 16, (4, 6)).astype(np.uint16))
    content = bytearray(encoded(deep, "TIFF"))
    with picture_file.open_picture(bytes(content), "image") as picture:
        picture.tile[0] = picture.tile[0]._replace(args=("RGB;16L", 0, 1))
        picture._mode = "RGB"
        assert picture_file.drops_bits(picture), tags
        with pytest.raises(BadFile, match="16 bits in each of several channels"):
            picture_file.to_rgb(picture, ImageRange(0, 10))
