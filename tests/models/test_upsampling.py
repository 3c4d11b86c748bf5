"""Transpose convolutions start as bilinear interpolation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from petseg.models.layers import upsampling


@pytest.mark.parametrize("stride", [2, 8])
def test_a_transpose_convolution_starts_as_bilinear_interpolation(stride):
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 3)).astype(np.float32)
    inputs = keras.Input((6, 6, 3))
    layer = keras.Model(inputs, upsampling.upsample(inputs, stride, 3, "up", 0))
    expected = tf.image.resize(x, (6 * stride, 6 * stride)).numpy()
    # At the rim a transpose convolution fades out where a resize repeats the edge.
    inner = slice(stride, -stride)
    np.testing.assert_allclose(
        layer(x)[:, inner, inner], expected[:, inner, inner], rtol=1e-5, atol=1e-5
    )
