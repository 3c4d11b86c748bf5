"""A run on patches: the same weights whoever computes them, and what it says of objectness."""

import copy
import shutil

import numpy as np
import pytest
import tensorflow as tf
from testing.clusters import log_of, train, write_config
from testing.configs import make_tiny_config
from testing.events import summaries
from testing.weights import assert_same_weights, checkpoint_weights

from petseg.losses.base import Truth
from petseg.losses.presence import labels_of_masks
from petseg.models.encoders.base import IMAGE
from petseg.models.segmentation_model import ModelOptions, build_model
from petseg.run_dir import checkpoints, evaluations
from petseg.training import trainer
from petseg.training.gradients import BatchShares, LossOptions, make_gradients

STEPS = 20  # four epochs of 20 images in batches of 4


def patch_config(data_dir):
    config = make_tiny_config(data_dir)
    config.data.label_map = "border_is_pet"
    config.patches.enabled = config.model.presence = True
    config.train.loss = "cross_entropy+dice+presence"
    config.model.dropout_rate = 0.3
    config.augment.brightness = 0.2
    config.augment.max_rotation_degrees = 10.0
    config.train.epochs, config.train.evaluate_every_epochs = 4.0, 2.0
    config.train.keep_checkpoints = 9
    config.train.trainable = "all"
    return config


@pytest.fixture(scope="module")
def alone(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    trainer.train_and_evaluate(patch_config(data_dir), str(folder))
    return folder


@pytest.mark.slow
def test_it_says_how_well_it_tells_canonical_patches(alone):
    figures = evaluations.read_evaluations(str(alone))[STEPS]
    assert 0 <= figures["presence_auc"]["pet"] <= 1
    assert figures["presence_auc"]["background"] is None
    assert figures["presence_threshold"] == {"pet": 0.0, "background": 0.0}
    assert "presence/auc/pet" in {tag for tag, _, _ in summaries(f"{alone}/validation")}


@pytest.mark.slow
def test_hosts_and_microbatches_end_with_the_weights_of_one_device(data_dir, alone, tmp_path):
    config = patch_config(data_dir)
    hosts, parts = tmp_path / "hosts", tmp_path / "parts"
    file = write_config(config, tmp_path / "config.py")
    assert train(file, hosts, hosts=2) == [0, 0], log_of(hosts) + log_of(hosts, 1)
    parted = copy.deepcopy(config)
    parted.optimizer.microbatches = 4
    trainer.train_and_evaluate(parted, str(parts))
    expected = checkpoint_weights(alone, STEPS)
    for folder in (hosts, parts):
        assert_same_weights(checkpoint_weights(folder, STEPS), expected, rtol=0, atol=1e-5)
    mine, theirs = (evaluations.read_evaluations(str(f))[STEPS] for f in (hosts, alone))
    assert mine["presence_auc"] == theirs["presence_auc"]


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_weights(data_dir, alone, tmp_path):
    folder = tmp_path / "resumed"
    shutil.copytree(alone, folder)
    first, *later = checkpoints.saved_steps(str(folder))
    assert 0 < first < STEPS and later[-1] == STEPS
    for step in later:
        shutil.rmtree(folder / "checkpoints" / f"ckpt-{step}")
    assert checkpoints.saved_steps(str(folder)) == [first]
    trainer.train_and_evaluate(patch_config(data_dir), str(folder))
    assert_same_weights(checkpoint_weights(folder, STEPS), checkpoint_weights(alone, STEPS))


def test_labels_of_a_batch_replace_those_of_its_masks():
    """And any number of replicas and microbatches sums to the same."""
    model = build_model(
        ModelOptions(encoder_width=2, encoder_convs=(1, 1, 1, 1, 1), presence=True),
        num_classes=2, image_size=32, weights="none",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 256, (4, 32, 32, 3)), tf.uint8)
    masks = tf.constant(rng.choice([0, 1, 255], (4, 32, 32)), tf.uint8)
    weights = model.trainable_weights("decoder")
    losses = LossOptions({"cross_entropy": 1.0, "presence": 1.0})

    def computed(labels, replicas=1, microbatches=1):
        shares = BatchShares(4, replicas, microbatches)
        gradients, total = make_gradients(model, weights, losses, shares, xla=False), None
        size = 4 // replicas
        for replica in range(replicas):
            rows = slice(replica * size, (replica + 1) * size)
            new = gradients(
                [tf.identity(w.value) for w in weights], {IMAGE: images[rows]},
                Truth(masks[rows], image_labels=None if labels is None else labels[rows]),
                tf.constant(replica), tf.constant([1, 2], tf.int64), tf.constant(3000.0),
                tf.constant(1.0),
            )  # fmt: skip
            total = [a.numpy() + b for a, b in zip(new, total or [0.0] * len(new), strict=True)]
        return total

    of_masks = computed(None)
    for one, other in zip(of_masks, computed(labels_of_masks(masks, 2).numpy()), strict=True):
        np.testing.assert_array_equal(one, other)
    labels = np.array([[255, 1], [255, 0], [255, 255], [255, 0]], np.uint8)
    whole = computed(labels)
    logits = model.outputs({IMAGE: images}).presence.numpy().astype(np.float64)[:, 1]
    losses_by_hand = np.log1p(np.exp(np.where(labels[:, 1] == 1, -logits, logits)))
    known = np.where(labels[:, 1] == 255, 0, losses_by_hand)
    assert float(whole[1]) == pytest.approx(known.sum() / 4, rel=1e-5)
    for cut in ((2, 1), (1, 4), (2, 2)):
        for one, other in zip(computed(labels, *cut), whole, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
