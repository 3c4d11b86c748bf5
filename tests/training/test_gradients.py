import numpy as np
import pytest
import tensorflow as tf

from petseg.models import vgg16_skip
from petseg.training import state
from petseg.training.gradients import make_gradients

CONVS = (2, 2, 3, 3, 3)


@pytest.fixture(scope="module")
def model():
    return vgg16_skip.build_model(
        head="fcn8s", num_classes=3, image_size=32, backbone_weights="none", backbone_width=2,
        backbone_convs=CONVS,
    )  # fmt: skip


def backward_convolutions(model, trained):
    """How many filters of convolutions get a gradient in the graph."""
    weights = state.trained_weights(model, trained)
    gradients = make_gradients(
        model, weights, terms={"cross_entropy": 1.0, "dice": 1.0}, dropout_rate=0.1,
        global_batch=2, replicas=1, microbatches=1, xla=False,
    )  # fmt: skip

    @tf.function
    def run():
        return gradients(
            [tf.identity(w.value) for w in weights], {0: tf.zeros([2, 32, 32, 3], tf.uint8)},
            tf.zeros([2, 32, 32], tf.uint8), tf.constant(0), tf.constant([1, 2], tf.int64),
            tf.constant(2048.0), tf.constant(1.0),
        )  # fmt: skip

    types = [op.type for op in run.get_concrete_function().graph.get_operations()]
    return types.count("Conv2DBackpropFilter")


@pytest.mark.parametrize(("trained", "blocks"), [
    ("head", 0), ("block5", 1), ("block4", 2), ("block2", 4), ("all", 5),
])  # fmt: skip
def test_what_is_frozen_has_no_backward_pass(model, trained, blocks):
    # Three scores and three transpose convolutions, then the trained blocks.
    expected = 6 + sum(CONVS[len(CONVS) - blocks :])
    assert backward_convolutions(model, trained) == expected


def test_fused_losses_have_the_same_values_and_gradients(model):
    weights = state.trained_weights(model, "head")
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 256, (4, 32, 32, 3)), tf.uint8)
    masks = tf.constant(rng.choice([0, 1, 2, 255], (4, 32, 32)), tf.uint8)
    found = []
    for fuse in (False, True):
        gradients = make_gradients(
            model, weights, terms={"cross_entropy": 1.0, "dice": 0.5, "focal": 2.0},
            class_weights=(1.0, 2.0, 0.5), label_smoothing=0.1, dropout_rate=0.1, global_batch=4,
            replicas=1, microbatches=2, xla=False, fuse_losses=fuse,
        )  # fmt: skip
        arguments = [{0: images}, masks, tf.constant(0), tf.constant([1, 2], tf.int64)]
        values = [tf.identity(w.value) for w in weights]
        scales = [tf.constant(3000.0), tf.constant(8.0)]
        found.append(tf.function(gradients)(values, *arguments, *scales))
    for plain, fused in zip(*found, strict=True):
        np.testing.assert_allclose(fused, plain, rtol=1e-4, atol=1e-6)
    assert all(float(loss) > 0 for loss in found[0][:3])


def test_stages_train_from_their_block_on(model):
    for trained, first in (("head", 6), ("block5", 5), ("block3", 3), ("all", 1)):
        paths = [w.path for w in state.trained_weights(model, trained)]
        blocks = {int(path[5]) for path in paths if path.startswith("block")}
        assert blocks == set(range(first, 6))
        assert len([p for p in paths if not p.startswith("block")]) == 9


def test_the_optimizer_of_a_stage_starts_at_zero(model):
    from petseg.training.optimizers import Optimizer

    weights = state.trained_weights(model, "block5")
    made = state.make_state(
        weights, [1.0] * len(weights), [], Optimizer("adam"), has_loss_scale=True
    )
    assert [len(column) for column in made.slots.values()] == [len(weights)] * 2
    assert not any(np.any(slot.numpy()) for slot in made.slots["m"])
    assert made.counts["loss_scale"].numpy() == 2**15
