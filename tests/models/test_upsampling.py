"""Upsampling: as bilinear interpolation at first, and the same by multiplication."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from petseg.models.decoders import heads
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


@settings(deadline=None, max_examples=25)
@given(
    stride=st.sampled_from([2, 4, 8, 32]),
    sides=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    seed=st.integers(0, 2**32 - 1),
)
def test_multiplying_is_tensorflows_transpose_convolution(stride, sides, channels, seed):
    rng = np.random.default_rng(seed)
    x = tf.constant(rng.normal(size=(2, *sides, channels[0])), tf.float32)
    kernel = tf.constant(rng.normal(size=(2 * stride, 2 * stride, *channels[::-1])), tf.float32)
    shape = (2, sides[0] * stride, sides[1] * stride, channels[1])
    weights = rng.normal(size=shape).astype(np.float32)

    def with_gradients(compute):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = compute()
        return [y, *tape.gradient(y, [x, kernel], weights)]

    expected = with_gradients(lambda: tf.nn.conv2d_transpose(x, kernel, shape, stride))
    for found, right in zip(
        with_gradients(lambda: upsampling.multiply(x, kernel)), expected, strict=True
    ):
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_a_head_that_multiplies_is_the_same_head(dtype):
    keras.config.set_dtype_policy(dtype)
    try:
        shapes = [(1, 1, 6), (2, 2, 5), (4, 4, 3)]
        head = heads.build_skip_head((5, 4, 3), shapes, 2, 4)
    finally:
        keras.config.set_dtype_policy("float32")
    other = upsampling.multiply_for_wide_strides(head)
    assert {id(v) for v in other.trainable_variables} == {id(v) for v in head.trainable_variables}
    rng = np.random.default_rng(0)
    pools = [tf.constant(rng.normal(0, 50, (2, *shape)), tf.float32) for shape in shapes]
    for variable in head.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))

    weights = tf.constant(rng.normal(size=(2, 32, 32, 2)), tf.float32)

    def with_gradients(model):
        with tf.GradientTape() as tape:
            logits = model(pools, training=True)
        values = [variable.value for variable in head.trainable_variables]
        return [logits, *tape.gradient(logits, values, weights)]

    for found, right in zip(with_gradients(other), with_gradients(head), strict=True):
        assert found.dtype == right.dtype
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-3)
    # It has to be another computation, or nothing is gained.
    assert "Conv2DBackpropInput" in str(_operations(head, pools)[-3:])
    assert "Conv2DBackpropInput" not in str(_operations(other, pools)[-12:])


def _operations(model: keras.Model, pools: list[tf.Tensor]) -> list[str]:
    graph = tf.function(model).get_concrete_function(pools).graph
    return [operation.type for operation in graph.get_operations()]
