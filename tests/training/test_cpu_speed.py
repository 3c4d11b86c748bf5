"""What is computed otherwise on CPUs is the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from petseg.models.segmentation_model import ModelOptions, build_model
from petseg.training import cpu_speed


@settings(deadline=None, max_examples=25)
@given(
    stride=st.sampled_from([2, 4, 8, 32]),
    sides=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    seed=st.integers(0, 2**32 - 1),
)
def test_matrix_multiplication_is_tensorflows_transpose_convolution(stride, sides, channels, seed):
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
        with_gradients(lambda: cpu_speed.conv2d_transpose_by_matmul(x, kernel)),
        expected,
        strict=True,
    ):
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_decoder_that_multiplies_is_the_same_decoder(precision):
    options = ModelOptions(decoder_channels=4, encoder_width=2, encoder_convs=(1, 1, 1, 1, 1))
    model = build_model(options, num_classes=2, image_size=32, weights="none", precision=precision)
    faster = cpu_speed.upsample_by_matmul(model)
    weights = model.decoder.trainable_variables
    assert {id(v) for v in faster.decoder.trainable_variables} == {id(v) for v in weights}
    rng = np.random.default_rng(0)
    features = [
        tf.constant(rng.normal(0, 50, (2, *one.shape[1:])), tf.float32)
        for one in model.decoder.inputs
    ]
    for variable in weights:
        variable.assign(rng.normal(size=variable.shape))
    by_logits = tf.constant(rng.normal(size=(2, 32, 32, 2)), tf.float32)

    def with_gradients(decoder):
        with tf.GradientTape() as tape:
            logits = decoder(features, training=True)
        values = [variable.value for variable in weights]
        return [logits, *tape.gradient(logits, values, by_logits)]

    for found, right in zip(
        with_gradients(faster.decoder), with_gradients(model.decoder), strict=True
    ):
        assert found.dtype == right.dtype
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-3)
    # It has to be another computation, or nothing is gained.
    assert "Conv2DBackpropInput" in str(_operations(model.decoder, features)[-3:])
    assert "Conv2DBackpropInput" not in str(_operations(faster.decoder, features)[-12:])


def _operations(decoder: keras.Model, features: list[tf.Tensor]) -> list[str]:
    graph = tf.function(decoder).get_concrete_function(features).graph
    return [operation.type for operation in graph.get_operations()]


@pytest.mark.parametrize(
    "changes",
    [
        {"use_bias": True},
        {"activation": "relu"},
        {"kernel_size": 8},
        {"strides": (8, 16)},
        {"padding": "valid", "output_padding": None},
    ],
)
def test_a_layer_that_does_more_than_upsample_is_left_alone(changes):
    options = {"kernel_size": 16, "strides": 8, "padding": "same", "use_bias": False}
    layer = keras.layers.Conv2DTranspose(3, **{**options, **changes})
    assert not cpu_speed._can_multiply(layer)
    assert cpu_speed._can_multiply(keras.layers.Conv2DTranspose(3, **options))
