"""Distillation: a run that follows the logits of another run's model."""

import copy
import shutil

import numpy as np
import pytest
import tensorflow as tf
from testing.run_folders import prepare, write_run
from testing.weights import assert_identical_weights, checkpoint_weights

from petseg import config_rules
from petseg.data.label_map import IGNORE, parse_label_map
from petseg.devices import Devices
from petseg.errors import UserError
from petseg.losses.base import Truth
from petseg.models.encoders.base import IMAGE
from petseg.run_dir import checkpoints
from petseg.training import replica_check, teacher, trainer
from petseg.training.gradients import BatchShares, LossOptions, make_gradients

LOSS = "0.5*cross_entropy+0.5*distillation"


@pytest.fixture
def student(tiny_config, tmp_path):
    """Settings of a run that learns from the one in tmp_path/teacher, a wider one."""
    taught = copy.deepcopy(tiny_config)
    taught.model.encoder_width, taught.model.decoder = 3, "fcn16s"
    write_run(tmp_path / "teacher", taught)
    tiny_config.train.loss = LOSS
    tiny_config.train.teacher = str(tmp_path / "teacher")
    return tiny_config


def gradients_of(model, teacher, batch, shares, *, terms, replica=0):
    """Losses, and gradients of a decoder's weights."""
    weights = model.trainable_weights("decoder")
    losses = LossOptions(terms, dropout_rate=0.3, temperature=2.0, teacher=teacher)
    compute = make_gradients(model, weights, losses, shares, xla=False)
    images, masks = batch
    share = shares.global_batch // shares.replicas
    rows = slice(replica * share, (replica + 1) * share)
    return tf.function(compute)(
        [tf.identity(w.value) for w in weights], {IMAGE: images[rows]}, Truth(masks[rows]),
        tf.constant(replica), tf.constant([1, 2], tf.int64),
        tf.constant(float((masks != IGNORE).sum())), tf.constant(1.0),
    )  # fmt: skip


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)
    masks = rng.choice(np.array([0, 1, 2, IGNORE], np.uint8), (4, 32, 32))
    masks[2:, 4:] = IGNORE  # replicas hold pixels unevenly
    return images, masks


def test_the_divergence_is_a_mean_over_the_valid_pixels_of_the_global_batch(student, batch):
    run, (images, masks) = prepare(student), batch
    teacher = run.options.losses.teacher
    weights = run.model.trainable_weights("decoder")
    losses = LossOptions({"distillation": 0.5}, temperature=2.0, teacher=teacher)
    compute = make_gradients(run.model, weights, losses, BatchShares(4), xla=False)
    valid = masks != IGNORE
    loss, *_ = compute(
        [tf.identity(w.value) for w in weights], {IMAGE: images}, Truth(masks),
        tf.constant(0), tf.constant([1, 2], tf.int64), tf.constant(float(valid.sum())),
        tf.constant(1.0),
    )  # fmt: skip
    p, q = (
        tf.nn.softmax(model(images) / 2.0).numpy().astype(np.float64)
        for model in (teacher, run.model)
    )
    divergence = 4.0 * (p * np.log(p / q)).sum(-1)
    assert float(loss) == pytest.approx(0.5 * divergence[valid].mean(), rel=1e-4)


def test_parts_of_a_batch_have_the_gradient_of_the_whole(student, batch):
    run = prepare(student)
    teacher, terms = run.options.losses.teacher, {"cross_entropy": 0.5, "distillation": 0.5}

    def sums(shares):
        parts = [
            gradients_of(run.model, teacher, batch, shares, terms=terms, replica=replica)
            for replica in range(shares.replicas)
        ]
        return [sum(values) for values in zip(*parts, strict=True)]

    whole = sums(BatchShares(4))
    assert float(whole[1]) > 0
    for one, other in zip(sums(BatchShares(4, 2, microbatches=2)), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_the_teacher_has_no_backward_pass(student, batch):
    run = prepare(student)
    model, teacher = run.model, run.options.losses.teacher
    weights = model.trainable_weights("decoder")

    def filters_with_gradients(losses):
        compute = make_gradients(model, weights, losses, BatchShares(4), xla=False)

        @tf.function
        def step():
            images, masks = batch
            return compute(
                [tf.identity(w.value) for w in weights], {IMAGE: images}, Truth(masks),
                tf.constant(0), tf.constant([1, 2], tf.int64), tf.constant(9.0), tf.constant(1.0),
            )  # fmt: skip

        types = [op.type for op in step.get_concrete_function().graph.get_operations()]
        return types.count("Conv2DBackpropFilter"), types.count("Conv2D")

    alone, forward = filters_with_gradients(LossOptions({"cross_entropy": 1.0}))
    beside, forward_of_both = filters_with_gradients(
        LossOptions({"distillation": 1.0}, teacher=teacher)
    )
    assert alone == beside
    assert forward_of_both > forward


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "cross_entropy+distillation", "teacher": ""}, r"distillation follows another"),
        ({"loss": "cross_entropy"}, r"config\.train\.teacher=.* must be '' unless"),
        ({"cache": "features"}, r"must be '' with config\.data\.feature_cache_dir: a teacher"),
        ({"teacher_temperature": 0.0}, r"config\.train\.teacher_temperature=0\.0"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(student, changes, message):
    student.data.feature_cache_dir = changes.pop("cache", "")
    for name, value in changes.items():
        setattr(student.train, name, value)
    with pytest.raises(UserError, match=message):
        config_rules.validate(student)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("data.label_map", "background=2; pet=1; border=3", "has the classes pet, background, bo"),
        ("data.image_size", 64, r"was trained with config\.data\.image_size=32, this run has 64"),
        (
            "data.keep_aspect",
            True,
            r"config\.data\.keep_aspect=False, this run has True",
        ),
        ("train.teacher", "absent", r"config\.train\.teacher: absent: there is no such folder"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(student, field, value, message):
    section, _, name = field.partition(".")
    setattr(getattr(student, section), name, value)
    with pytest.raises(UserError, match=message) as caught:
        prepare(student)
    assert "\n" not in str(caught.value)


@pytest.mark.long
def test_a_resumed_run_has_the_same_teacher_and_ends_the_same(student, tmp_path):
    untouched = checkpoint_weights(tmp_path / "teacher", 3)
    trainer.train_and_evaluate(student, str(tmp_path / "whole"))
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    shutil.rmtree(tmp_path / "stopped" / "checkpoints" / "ckpt-10")
    shutil.move(tmp_path / "teacher", tmp_path / "moved")
    student.train.teacher = str(tmp_path / "moved")
    run = prepare(student, tmp_path / "stopped")
    for variable in run.options.losses.teacher.variables:
        np.testing.assert_array_equal(variable.numpy(), untouched[variable.path])
    trainer.train_and_evaluate(student, str(tmp_path / "stopped"))
    whole, resumed = (checkpoint_weights(tmp_path / run, 10) for run in ("whole", "stopped"))
    assert_identical_weights(whole, resumed)
    assert_identical_weights(checkpoint_weights(tmp_path / "moved", 3), untouched)


def test_a_run_with_another_teacher_is_not_resumed(student, tmp_path):
    write_run(tmp_path / "run", student)
    assert prepare(student, tmp_path / "run").metadata.step == 3
    assert len(checkpoints.read_metadata(str(tmp_path / "run"), 3).run["teacher_sha256"]) == 64
    other = copy.deepcopy(student)
    other.train.teacher, other.train.loss = "", "cross_entropy"
    write_run(tmp_path / "other", other)
    student.train.teacher = str(tmp_path / "other")
    with pytest.raises(UserError, match=r"other has other weights than the teacher .* 3 steps"):
        prepare(student, tmp_path / "run")
    with pytest.raises(UserError, match=r"was trained with config\.train\.teacher='"):
        prepare(other, tmp_path / "run")


@pytest.mark.long
def test_replicas_that_follow_a_teacher_end_with_the_weights_of_one(student):
    student.data.label_map = "pet=1; background=2; border=3"
    *_, last = replica_check.check_replicas(student)
    assert last.startswith("20 steps; the same to")


def test_hosts_must_follow_the_same_teacher(student):
    own_map = parse_label_map("three_class")
    own = teacher.load_teacher(student, own_map, Devices(tf.distribute.get_strategy())).sha256
    for other, is_same in ((own, True), ("0" * 64, False)):
        calls = iter([float(int(other[:8], 16)), float(not is_same)])
        two = Devices(
            tf.distribute.get_strategy(),
            agree=lambda values, calls=calls: [value + next(calls) for value in values],
            host_count=2,
        )
        if is_same:
            assert teacher.load_teacher(student, own_map, two).sha256 == own
        else:
            with pytest.raises(UserError, match="not the same on all hosts"):
                teacher.load_teacher(student, own_map, two)
