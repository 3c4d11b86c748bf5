import numpy as np
import pytest
import tensorflow as tf

from petseg.losses.base import Truth
from petseg.models.encoders.base import IMAGE
from petseg.models.segmentation_model import ModelOptions, build_model
from petseg.training import state
from petseg.training.gradients import (
    BatchShares,
    LossOptions,
    draw_channel_factors,
    make_gradients,
)
from petseg.training.optimizers import Optimizer

CONVS = (2, 2, 3, 3, 3)


@pytest.fixture(scope="module")
def model():
    options = ModelOptions(encoder_width=2, encoder_convs=CONVS)
    return build_model(options, num_classes=3, image_size=32, weights="none")


def backward_convolutions(model, trainable):
    """How many filters of convolutions get a gradient in the graph."""
    weights = model.trainable_weights(trainable)
    losses = LossOptions({"cross_entropy": 1.0, "dice": 1.0}, dropout_rate=0.1)
    gradients = make_gradients(model, weights, losses, BatchShares(2), xla=False)

    @tf.function
    def run():
        return gradients(
            [tf.identity(w.value) for w in weights], {IMAGE: tf.zeros([2, 32, 32, 3], tf.uint8)},
            Truth(tf.zeros([2, 32, 32], tf.uint8)), tf.constant(0),
            tf.constant([1, 2], tf.int64), tf.constant(2048.0), tf.constant(1.0),
        )  # fmt: skip

    types = [op.type for op in run.get_concrete_function().graph.get_operations()]
    return types.count("Conv2DBackpropFilter")


@pytest.mark.parametrize(("trainable", "blocks"), [
    ("decoder", 0), ("block5", 1), ("block4", 2), ("block2", 4), ("all", 5),
])  # fmt: skip
def test_what_is_frozen_has_no_backward_pass(model, trainable, blocks):
    # Three scores and three transpose convolutions, then the trained blocks.
    expected = 6 + sum(CONVS[len(CONVS) - blocks :])
    assert backward_convolutions(model, trainable) == expected


def test_compiled_losses_have_the_same_values_and_gradients(model):
    weights = model.trainable_weights("decoder")
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 256, (4, 32, 32, 3)), tf.uint8)
    masks = tf.constant(rng.choice([0, 1, 2, 255], (4, 32, 32)), tf.uint8)
    losses = LossOptions(
        {"cross_entropy": 1.0, "dice": 0.5, "focal": 2.0},
        class_weights=(1.0, 2.0, 0.5), label_smoothing=0.1, dropout_rate=0.1,
    )  # fmt: skip
    results = []
    for compiled in (False, True):
        gradients = make_gradients(
            model, weights, losses, BatchShares(4, microbatches=2), xla=False,
            compile_losses=compiled,
        )  # fmt: skip
        arguments = [
            {IMAGE: images},
            Truth(masks),
            tf.constant(0),
            tf.constant([1, 2], tf.int64),
        ]
        values = [tf.identity(w.value) for w in weights]
        scales = [tf.constant(3000.0), tf.constant(8.0)]
        results.append(tf.function(gradients)(values, *arguments, *scales))
    for plain, compiled in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=1e-4, atol=1e-6)
    assert all(float(loss) > 0 for loss in results[0][:3])


def test_the_optimizer_of_a_stage_starts_at_zero(model):
    weights = model.trainable_weights("block5")
    made = state.make_state(
        weights, [1.0] * len(weights), [], Optimizer("adam"), has_loss_scale=True
    )
    assert [len(column) for column in made.slots.values()] == [len(weights)] * 2
    assert not any(np.any(slot.numpy()) for slot in made.slots["m"])
    assert made.counts["loss_scale"].numpy() == 2**15


def test_replicas_drop_the_channels_that_one_device_drops():
    seed = tf.constant([3, 4], tf.int64)
    whole = draw_channel_factors((9, 5), 0.4, seed, 0, BatchShares(8))
    for replicas in (2, 4, 8):
        shares = BatchShares(8, replicas)
        parts = [draw_channel_factors((9, 5), 0.4, seed, part, shares) for part in range(replicas)]
        for index, expected in enumerate(whole):
            joined = np.concatenate([part[index] for part in parts])
            np.testing.assert_array_equal(joined, expected)


def test_dropout_zeroes_whole_channels_and_keeps_the_mean():
    def draw(step):
        seed = tf.constant([1, step], tf.int64)
        return draw_channel_factors((128,), 0.25, seed, 0, BatchShares(64))[0].numpy()

    factors = draw(2)
    assert factors.shape == (64, 1, 1, 128)
    assert set(np.unique(factors)) == {np.float32(0), np.float32(1 / 0.75)}
    assert 0.97 < factors.mean() < 1.03
    assert (draw(3) != factors).any()
