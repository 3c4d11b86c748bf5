import keras
import numpy as np
import pytest
import tensorflow as tf

from petseg.training import optimizers
from petseg.training.optimizers import Optimizer

SHAPES = ((3, 4), (4,), (2, 3, 4))


def run_ours(optimizer, start, gradients, rates):
    values = [tf.constant(v) for v in start]
    slots = {name: [tf.zeros(v.shape) for v in start] for name in optimizer.slots}
    for count, (row, rate) in enumerate(zip(gradients, rates, strict=True)):
        tensors, updates = [tf.constant(g) for g in row], tf.constant(count, tf.int64)
        values, slots = optimizer.update(values, slots, tensors, [tf.constant(rate)] * 3, updates)
    return [v.numpy() for v in values]


def run_keras(optimizer, start, gradients, rates):
    variables = [keras.Variable(v) for v in start]
    optimizer.build(variables)
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if v.ndim == 1])
    for grads, rate in zip(gradients, rates, strict=True):
        optimizer.learning_rate = rate
        optimizer.apply([tf.constant(g) for g in grads], variables)
    return [v.numpy() for v in variables]


@pytest.mark.parametrize(("ours", "theirs"), [
    (Optimizer("adam"), keras.optimizers.Adam),
    (Optimizer("adamw", weight_decay=0.1), lambda: keras.optimizers.AdamW(weight_decay=0.1)),
    (Optimizer("sgd", 0.9), lambda: keras.optimizers.SGD(momentum=0.9)),
    (Optimizer("sgd", 0.5, 0.1), lambda: keras.optimizers.SGD(momentum=0.5, weight_decay=0.1)),
    (Optimizer("sgd", 0.0), keras.optimizers.SGD),
])  # fmt: skip
def test_updates_are_those_of_keras(ours, theirs):
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]
    gradients = [
        [(10.0 ** rng.integers(-3, 3) * rng.normal(size=s)).astype(np.float32) for s in SHAPES]
        for _ in range(20)
    ]
    rates = rng.uniform(0, 0.1, 20).astype(np.float32)
    mine = run_ours(ours, start, gradients, rates)
    keras_values = run_keras(theirs(), start, gradients, rates)
    for one, other, first in zip(mine, keras_values, start, strict=True):
        assert np.abs(one - first).max() > 1e-3
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


def test_clipping_keeps_the_direction_and_bounds_the_norm():
    gradients = [np.full((2, 2), 3.0, np.float32), np.full(4, -4.0, np.float32)]
    clipped = [g.numpy() for g in optimizers.clip(gradients, 1.0)]
    assert np.sqrt(sum((g**2).sum() for g in clipped)) == pytest.approx(1.0)
    assert clipped[0][0, 0] / clipped[1][0] == pytest.approx(-0.75)
    for norm in (0.0, 100.0):
        for one, other in zip(optimizers.clip(gradients, norm), gradients, strict=True):
            np.testing.assert_allclose(one, other)


def test_averages_follow_fast_at_first_and_slowly_later():
    values = [tf.constant([1.0])]
    old = [tf.constant([0.0])]
    after = [
        optimizers.average(old, values, 0.99, tf.constant(n, tf.int64))[0].numpy()[0]
        for n in (0, 8, 10**6)
    ]
    np.testing.assert_allclose(after, [0.9, 0.5, 0.01], rtol=1e-4)
