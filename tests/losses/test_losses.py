import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from petseg.config import parse_class_weights
from petseg.data import manifest
from petseg.data.label_map import IGNORE, parse_label_map
from petseg.errors import UserError
from petseg.losses import losses
from petseg.losses import terms as loss_terms
from petseg.training.data_set import class_weights

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (4, 5, 6, 3)).astype(np.float32)
LABELS = RNG.integers(0, 3, (4, 5, 6)).astype(np.uint8)
LABELS[RNG.random(LABELS.shape) < 0.3] = IGNORE
LABELS[2] = IGNORE
LABELS[3] = 1  # one class alone


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_cross_entropy_is_the_sum_over_pixels_that_count():
    expected = 0.0
    for place in np.ndindex(LABELS.shape):
        if LABELS[place] != IGNORE:
            expected -= np.log(softmax(LOGITS[place])[LABELS[place]])
    assert float(losses.cross_entropy_sum(LOGITS, LABELS)) == pytest.approx(expected, rel=1e-5)


def test_dice_is_taken_per_image_and_averaged_over_classes():
    expected = 0.0
    for logits, labels in zip(LOGITS, LABELS, strict=True):
        valid = labels != IGNORE
        dice = []
        for class_id in range(3):
            p, t = softmax(logits)[..., class_id][valid], (labels == class_id)[valid]
            dice.append((2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1))
        expected += 1 - np.mean(dice)
    assert float(losses.dice_loss_sum(LOGITS, LABELS)) == pytest.approx(expected, rel=1e-5)


def images():
    """Probabilities and labels of each image's pixels that count."""
    for logits, labels in zip(LOGITS, LABELS, strict=True):
        valid = labels != IGNORE
        yield softmax(logits)[valid], labels[valid]


def test_focal_loss_weighs_what_is_uncertain():
    expected = 0.0
    for p, t in images():
        own = p[np.arange(len(t)), t]
        expected += ((1 - own) ** 2 * -np.log(own)).sum()
    assert float(losses.focal_loss_sum(LOGITS, LABELS)) == pytest.approx(expected, rel=1e-5)


def test_generalised_dice_weighs_classes_by_their_area():
    expected = 0.0
    for p, t in images():
        one_hot = np.eye(3)[t]
        areas = one_hot.sum(0)
        held = areas > 0
        if held.any():
            weights = 1 / areas[held] ** 2
            overlap = (weights * (p * one_hot).sum(0)[held]).sum()
            expected += 1 - 2 * overlap / (weights * (p + one_hot).sum(0)[held]).sum()
    found = float(losses.generalised_dice_loss_sum(LOGITS, LABELS))
    assert found == pytest.approx(expected, rel=1e-5)


def test_tversky_weighs_what_is_missed_more_than_what_is_too_much():
    expected = 0.0
    for p, t in images():
        one_hot = np.eye(3)[t]
        right = (p * one_hot).sum(0)
        too_much, missed = (p * (1 - one_hot)).sum(0), ((1 - p) * one_hot).sum(0)
        expected += 1 - ((right + 1) / (right + 0.3 * too_much + 0.7 * missed + 1)).mean()
    assert float(losses.tversky_loss_sum(LOGITS, LABELS)) == pytest.approx(expected, rel=1e-5)


def test_lovasz_is_the_extension_of_one_minus_iou():
    """As the sum over errors, from the largest on, of what each adds to the set's loss."""
    expected = 0.0
    for p, t in images():
        of_classes = []
        for class_id in set(t.tolist()):
            true = t == class_id
            errors = np.abs(true - p[:, class_id])
            wrong, before, total = np.zeros(len(t), bool), 0.0, 0.0
            for place in np.argsort(-errors, kind="stable"):
                wrong[place] = True
                predicted = np.where(wrong, ~true, true)
                loss = 1 - (true & predicted).sum() / (true | predicted).sum()
                total += errors[place] * (loss - before)
                before = loss
            of_classes.append(total)
        if of_classes:
            expected += np.mean(of_classes)
    found = float(losses.lovasz_softmax_loss_sum(LOGITS, LABELS))
    assert found == pytest.approx(expected, rel=1e-4)


def test_lovasz_of_masks_is_one_minus_their_iou():
    rng = np.random.default_rng(1)
    truth, predicted = rng.integers(0, 2, (2, 1, 9, 9))
    logits = 80.0 * np.eye(2, dtype=np.float32)[predicted]
    ious = [
        ((truth == c) & (predicted == c)).sum() / ((truth == c) | (predicted == c)).sum()
        for c in range(2)
    ]
    found = float(losses.lovasz_softmax_loss_sum(logits, truth.astype(np.uint8)))
    assert found == pytest.approx(1 - np.mean(ious), rel=1e-5)


def test_a_class_weighs_as_said_and_smoothing_spreads_the_truth():
    weights, smoothing, expected = (0.5, 2.0, 3.0), 0.12, 0.0
    for p, t in images():
        target = (1 - smoothing) * np.eye(3)[t] + smoothing / 3
        expected -= (np.array(weights)[t][:, None] * target * np.log(p)).sum()
    found = losses.cross_entropy_sum(LOGITS, LABELS, weights, smoothing)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    plain = float(losses.cross_entropy_sum(LOGITS, LABELS))
    same = float(losses.cross_entropy_sum(LOGITS, LABELS, (1.0, 1.0, 1.0)))
    assert same == pytest.approx(plain, rel=1e-6)


def test_the_boundary_is_what_lies_within_three_pixels_of_another_class():
    rng = np.random.default_rng(4)
    truth = np.repeat(np.repeat(rng.integers(0, 3, (1, 3, 4)), 9, 1), 9, 2).astype(np.uint8)
    truth[0, 5:8] = IGNORE
    logits = rng.normal(0, 2, (*truth.shape, 3)).astype(np.float32)
    expected, near = 0.0, 0
    for row, column in np.ndindex(truth[0].shape):
        own = truth[0, row, column]
        around = truth[0, max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4]
        if own != IGNORE and ((around != own) & (around != IGNORE)).any():
            expected -= np.log(softmax(logits[0, row, column])[own])
            near += 1
    assert 0 < near < truth.size
    found = float(losses.boundary_cross_entropy_sum(logits, truth))
    assert found == pytest.approx(expected, rel=1e-5)


def test_weights_and_smoothing_reach_the_terms_that_take_them():
    chosen = losses.choose(["cross_entropy", "dice", "boundary_cross_entropy"], (0.0, 0, 0), 0.0)
    values = [float(loss(LOGITS, LABELS)) for loss, _ in chosen]
    assert values[0] == values[2] == 0
    assert values[1] == float(losses.dice_loss_sum(LOGITS, LABELS))
    assert [is_of_pixels for _, is_of_pixels in chosen] == [True, False, True]


def test_every_term_that_a_setting_may_name_is_there():
    assert set(losses.TERMS) == set(loss_terms.NAMES)


@pytest.mark.parametrize("loss", [f for f, _ in losses.TERMS.values()], ids=list(losses.TERMS))
class TestEveryLoss:
    def test_ignored_pixels_are_neutral(self, loss):
        changed = LOGITS.copy()
        changed[LABELS == IGNORE] = RNG.normal(0, 50, changed[LABELS == IGNORE].shape)
        assert float(loss(changed, LABELS)) == float(loss(LOGITS, LABELS))
        logits = tf.Variable(LOGITS)
        with tf.GradientTape() as tape:
            value = loss(logits, tf.constant(LABELS))
        gradient = tape.gradient(value, logits).numpy()
        assert (gradient[LABELS == IGNORE] == 0).all()
        assert np.abs(gradient[LABELS != IGNORE]).max() > 0

    def test_all_ignored_is_zero_and_finite(self, loss):
        logits, labels = tf.Variable(LOGITS), tf.fill(LABELS.shape, tf.constant(IGNORE, tf.uint8))
        with tf.GradientTape() as tape:
            value = loss(logits, labels)
        assert float(value) == 0
        assert (tape.gradient(value, logits).numpy() == 0).all()

    def test_parts_of_a_batch_add_up(self, loss):
        whole = float(loss(LOGITS, LABELS))
        parts = [float(loss(LOGITS[i : i + 1], LABELS[i : i + 1])) for i in range(4)]
        assert sum(parts) == pytest.approx(whole, rel=1e-5)

    def test_the_gradient_is_that_of_finite_differences(self, loss):
        labels = tf.constant(LABELS)
        logits = tf.Variable(LOGITS.astype(np.float64))
        with tf.GradientTape() as tape:
            value = loss(logits, labels)
        gradient = tape.gradient(value, logits).numpy()
        for _ in range(20):
            direction = RNG.normal(0, 1, logits.shape)
            step = 1e-6
            ahead = float(loss(logits + step * direction, labels))
            behind = float(loss(logits - step * direction, labels))
            expected = (gradient * direction).sum()
            assert (ahead - behind) / (2 * step) == pytest.approx(expected, rel=1e-5, abs=1e-7)

    def test_a_sure_and_right_model_has_no_loss(self, loss):
        right = 50 * np.eye(3, dtype=np.float32)[np.where(LABELS == IGNORE, 0, LABELS)]
        assert float(loss(right, LABELS)) == pytest.approx(0, abs=1e-4)


def test_valid_pixels_are_counted():
    assert float(losses.count_valid_pixels(LABELS)) == (LABELS != IGNORE).sum()


def test_a_sum_of_terms_is_read_with_its_weights():
    assert loss_terms.parse_loss("dice") == {"dice": 1.0}
    read = loss_terms.parse_loss("cross_entropy + 0.5*dice+2e-1 * focal")
    assert read == {"cross_entropy": 1.0, "dice": 0.5, "focal": 0.2}
    assert list(read) == ["cross_entropy", "dice", "focal"]


@pytest.mark.parametrize(
    "text", ["", "huber", "dice+dice", "0*dice", "-1*dice", "x*dice", "dice+", "inf*dice", "2*"]
)
def test_a_sum_that_cannot_be_is_refused(text):
    with pytest.raises(UserError, match=r"^config\.train\.loss=.*cross_entropy\+0\.5\*dice$"):
        loss_terms.parse_loss(text)


def test_balanced_weights_give_every_class_the_same_sum(data_dir):
    split = manifest.read_manifest(str(data_dir)).splits["train"]
    label_map = parse_label_map("pet=1,3; background=2")
    weights = class_weights("balanced", label_map, split)
    counted = split.pixels_per_label
    counts = np.array([counted[1] + counted[3], counted[2]])
    sums = counts * weights
    assert sums[0] == pytest.approx(sums[1])
    assert sums.sum() == pytest.approx(counts.sum())
    assert class_weights("none", label_map, split) == ()
    assert class_weights("1, 2.5", label_map, split) == (1.0, 2.5)
    with pytest.raises(UserError, match="a number for each of pet, background"):
        class_weights("1,2,3", label_map, split)
    uncounted = manifest.Split(
        tuple(dataclasses.replace(shard, pixels_per_label={}) for shard in split.shards)
    )
    with pytest.raises(UserError, match="without --validate=header"):
        class_weights("balanced", label_map, uncounted)


@pytest.mark.parametrize("text", ["-1,2", "a,b", "0,0", "inf,1", "", "balanced,1"])
def test_class_weights_that_cannot_be_are_refused(text):
    with pytest.raises(UserError, match=r"^config\.train\.class_weights="):
        parse_class_weights(text)
