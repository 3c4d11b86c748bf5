"""Smoothing against SciPy's Gaussian."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from petseg.inference.smoothing import reach_px, smooth


def random_probabilities(height, width, classes=3, seed=0):
    values = np.random.default_rng(seed).random((height, width, classes), np.float32)
    return values / values.sum(-1, keepdims=True)


def by_scipy(probabilities, sigma_px):
    """The average with a Gaussian's weights over the pixels of the image."""
    options = {"sigma": (sigma_px, sigma_px), "radius": reach_px(sigma_px), "mode": "constant"}
    planes = [ndimage.gaussian_filter(p, **options) for p in np.moveaxis(probabilities, -1, 0)]
    inside = ndimage.gaussian_filter(np.ones(probabilities.shape[:2]), **options)
    return np.stack(planes, axis=-1) / inside[..., None]


@given(
    st.integers(1, 12), st.integers(1, 12), st.floats(0.05, 6), st.integers(0, 9)
)  # fmt: skip
def test_it_is_scipys_gaussian_over_the_pixels_of_the_image(height, width, sigma_px, seed):
    given_ = random_probabilities(height, width, seed=seed)
    kept = given_.copy()
    smoothed = smooth(given_, sigma_px)
    assert smoothed.dtype == np.float32
    np.testing.assert_allclose(smoothed, by_scipy(given_.astype(float), sigma_px), atol=2e-6)
    np.testing.assert_allclose(smoothed.sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(given_, kept)


def test_zero_changes_nothing():
    given_ = random_probabilities(5, 4)
    np.testing.assert_array_equal(smooth(given_, 0.0), given_)


@pytest.mark.parametrize("sigma_px", [0.3, 1.0, 2.6])
def test_rows_depend_to_the_last_bit_on_those_within_reach_alone(sigma_px):
    given_ = random_probabilities(60, 17)
    whole, reach = smooth(given_, sigma_px), reach_px(sigma_px)
    for first, last in ((0, 5), (20, 33), (50, 60)):
        top = max(first - reach, 0)
        part = smooth(given_[top : last + reach], sigma_px)
        np.testing.assert_array_equal(part[first - top :][: last - first], whole[first:last])
