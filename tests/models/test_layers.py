"""Layers that decoders share, against loops in numpy and TensorFlow's own resizing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from petseg.models.layers import convolution, resizing, unpooling


def model_of(function, *arrays):
    inputs = [keras.Input(array.shape[1:], dtype=array.dtype.name) for array in arrays]
    return keras.Model(inputs, function(*inputs))(list(arrays)).numpy()


def unpool_by_loop(x, unpooled):
    result = np.zeros(unpooled.shape, x.dtype)
    for example, row, column, channel in np.ndindex(x.shape):
        window = unpooled[example, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2, channel]
        place = divmod(int(np.argmax(window)), 2)  # the first of several
        result[example, 2 * row + place[0], 2 * column + place[1], channel] = x[
            example, row, column, channel
        ]
    return result


@pytest.mark.parametrize("values", [2, 3, 1000])
@pytest.mark.parametrize("sign", [1, -1])
def test_unpooling_puts_features_where_the_first_maximum_was(values, sign):
    rng = np.random.default_rng(values)
    # Few values: most windows have several maxima, and many hold zeros alone.
    unpooled = sign * rng.integers(0, values, (3, 6, 10, 4)).astype(np.float32)
    x = rng.normal(size=(3, 3, 5, 4)).astype(np.float32)
    found = model_of(unpooling.unpool, x, unpooled)
    np.testing.assert_array_equal(found, unpool_by_loop(x, unpooled))


@pytest.mark.parametrize("scale", [1e-3, 0.7, 220.0, 1e6])
def test_the_scale_at_which_unpooling_compares_changes_nothing(scale):
    rng = np.random.default_rng(0)
    # Neighbours among floats: a division by the scale would make some of them equal.
    unpooled = np.nextafter(np.float32(scale), np.inf, dtype=np.float32)
    unpooled = unpooled * (1 + rng.integers(0, 3, (2, 6, 10, 4)) * np.float32(2**-23))
    x = rng.normal(size=(2, 3, 5, 4)).astype(np.float32)
    found = model_of(lambda *both: unpooling.unpool(*both, scale), x, unpooled)
    np.testing.assert_array_equal(found, unpool_by_loop(x, unpooled))


def test_unpooling_is_the_inverse_of_pooling_as_tensorflow_counts_places():
    rng = np.random.default_rng(0)
    unpooled = np.maximum(rng.normal(size=(1, 8, 12, 5)), 0).astype(np.float32)
    pooled, places = tf.nn.max_pool_with_argmax(unpooled, 2, 2, "VALID")
    expected = tf.scatter_nd(tf.reshape(places, [-1, 1]), tf.reshape(pooled, [-1]), [unpooled.size])
    found = model_of(unpooling.unpool, pooled.numpy(), unpooled)
    np.testing.assert_array_equal(found, tf.reshape(expected, unpooled.shape))
    np.testing.assert_array_equal(tf.nn.max_pool(found, 2, 2, "VALID"), pooled)


def test_unpooling_gives_what_is_unpooled_its_gradient_alone():
    rng = np.random.default_rng(0)
    x, unpooled = (
        tf.constant(rng.normal(size=shape), tf.float32) for shape in ((1, 2, 3, 2), (1, 4, 6, 2))
    )
    weights = tf.constant(rng.normal(size=unpooled.shape), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([x, unpooled])
        total = tf.reduce_sum(weights * unpooling.unpool(x, unpooled))
    of_x, of_unpooled = tape.gradient(total, [x, unpooled])
    is_there = unpool_by_loop(np.ones(x.shape, np.float32), unpooled.numpy())
    expected = (weights.numpy() * is_there).reshape(1, 2, 2, 3, 2, 2).sum((2, 4))
    np.testing.assert_allclose(of_x, expected, rtol=1e-6)
    assert of_unpooled is None


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
@pytest.mark.parametrize("sides", [(6, 6), (7, 13), (14, 14), (12, 6)])
def test_pooling_averages_over_each_bin(bins, sides):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *sides, 3)).astype(np.float32)

    def pool(x):
        matrices = (resizing.average_matrix(side, bins) for side in sides)
        return resizing.resize_by(x, *matrices)

    expected = np.zeros((2, bins, bins, 3))
    for row in range(bins):
        for column in range(bins):
            (top, bottom), (left, right) = (
                (int(np.floor(n * side / bins)), int(np.ceil((n + 1) * side / bins)))
                for n, side in zip((row, column), sides, strict=True)
            )
            expected[:, row, column] = x[:, top:bottom, left:right].mean((1, 2))
    np.testing.assert_allclose(model_of(pool, x), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("sides", "new_sides"),
    [((1, 1), (5, 7)), ((2, 3), (14, 14)), ((6, 6), (6, 9)), ((3, 6), (7, 20))],
)
def test_resizing_is_tensorflows_bilinear_one(sides, new_sides):
    x = np.random.default_rng(0).normal(size=(2, *sides, 4)).astype(np.float32)

    def resize(x):
        pairs = zip(sides, new_sides, strict=True)
        return resizing.resize_by(x, *(resizing.bilinear_matrix(*pair) for pair in pairs))

    expected = tf.image.resize(x, new_sides)
    np.testing.assert_allclose(model_of(resize, x), expected, rtol=1e-4, atol=1e-5)


def test_resizing_keeps_the_precision_of_its_features():
    x = keras.Input((6, 6, 2), dtype="bfloat16")
    matrix = resizing.average_matrix(6, 3)
    assert resizing.resize_by(x, matrix, matrix).dtype == "bfloat16"


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (3, 1), (4, 4), (6, 2), (12, 4), (16, 8), (24, 8)]
)
def test_groups_divide_any_number_of_channels(channels, groups):
    rng = np.random.default_rng(0)
    x = rng.normal(3, 5, size=(2, 4, 6, channels)).astype(np.float32)
    found = model_of(lambda x: convolution.normalise(x, "mine"), x)
    grouped = x.reshape(2, 24, groups, -1)
    centred = grouped - grouped.mean((1, 3), keepdims=True)
    expected = centred / np.sqrt((centred**2).mean((1, 3), keepdims=True) + 1e-3)
    np.testing.assert_allclose(
        found, np.maximum(expected.reshape(x.shape), 0), rtol=1e-3, atol=1e-4
    )
