import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from testing import commands

from petseg.config_rules import parse_class_weights
from petseg.data import manifest
from petseg.data.label_map import IGNORE, parse_label_map
from petseg.errors import UserError
from petseg.losses.base import Loss, Outputs, Truth, count_valid_pixels
from petseg.losses.cross_entropy import boundary_cross_entropy_sum, cross_entropy_sum
from petseg.losses.focal import focal_loss_sum
from petseg.losses.lovasz_softmax import lovasz_softmax_loss_sum
from petseg.losses.overlap import dice_loss_sum, generalised_dice_loss_sum, tversky_loss_sum
from petseg.losses.presence import labels_of_masks
from petseg.losses.terms import are_faster_fused, choose_losses, parse_loss
from petseg.registry import LOSSES
from petseg.training.data import class_weights

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (4, 5, 6, 3)).astype(np.float32)
LABELS = RNG.integers(0, 3, (4, 5, 6)).astype(np.uint8)
LABELS[RNG.random(LABELS.shape) < 0.3] = IGNORE
LABELS[2] = IGNORE
LABELS[3] = 1  # one class alone


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_cross_entropy_is_summed_over_valid_pixels():
    expected = 0.0
    for index in np.ndindex(LABELS.shape):
        if LABELS[index] != IGNORE:
            expected -= np.log(softmax(LOGITS[index])[LABELS[index]])
    assert float(cross_entropy_sum(LOGITS, LABELS)) == pytest.approx(expected, rel=1e-5)


def test_dice_is_computed_per_image_and_averaged_over_classes():
    expected = 0.0
    for logits, labels in zip(LOGITS, LABELS, strict=True):
        valid = labels != IGNORE
        dice = []
        for class_id in range(3):
            p, t = softmax(logits)[..., class_id][valid], (labels == class_id)[valid]
            dice.append((2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1))
        expected += 1 - np.mean(dice)
    assert float(dice_loss_sum(LOGITS, LABELS)) == pytest.approx(expected, rel=1e-5)


def images():
    """Probabilities and labels of the valid pixels of each image."""
    for logits, labels in zip(LOGITS, LABELS, strict=True):
        valid = labels != IGNORE
        yield softmax(logits)[valid], labels[valid]


def test_presence_is_a_binary_cross_entropy_of_each_image_and_class():
    image_logits = RNG.normal(0, 2, (4, 3)).astype(np.float32)
    expected = 0.0
    for logits, labels in zip(image_logits.astype(np.float64), LABELS, strict=True):
        there = np.isin(np.arange(3), labels)
        if (labels != IGNORE).any():
            expected -= np.log(1 / (1 + np.exp(np.where(there, -logits, logits)))).mean()
    assert not np.isin(np.arange(3), LABELS[3]).all() and (LABELS[2] == IGNORE).all()
    loss = LOSSES.get("presence")
    truth = Truth(LABELS, image_labels=labels_of_masks(LABELS, 3))
    summed = loss.sum(Outputs(LOGITS, image_logits), truth)
    assert float(summed) == pytest.approx(expected, rel=1e-5)
    assert loss.summed_over == "image"


def test_the_class_of_an_image_has_a_cross_entropy_where_it_is_known():
    logits = RNG.normal(0, 2, (4, 5))
    classes = np.array([3, -1, 0, 3])
    expected = -sum(np.log(softmax(logits[i])[classes[i]]) for i in (0, 2, 3))
    loss = LOSSES.get("image_class")
    outputs = Outputs(LOGITS, image_class=tf.constant(logits, tf.float32))
    truth = Truth(LABELS, tf.constant(classes))
    assert float(loss.sum(outputs, truth)) == pytest.approx(expected, rel=1e-5)
    assert loss.summed_over == "image"


def test_a_box_counts_where_class_and_object_are_known():
    boxes = RNG.uniform(0, 1, (4, 3, 4))
    truth_boxes = np.array([[0.1, 0.2, 0.7, 0.9], [0, 0, 0, 0], [0, 0, 1, 1], [0.3, 0.3, 0.4, 0.5]])
    classes = np.array([2, 1, -1, 0])
    expected = 0.0
    for i in (0, 3):  # the second has no object, the third no class
        for error in np.abs(boxes[i, classes[i]] - truth_boxes[i]):
            expected += error**2 / 2 / 0.1 if error < 0.1 else error - 0.05
    loss, given = LOSSES.get("box"), tf.Variable(boxes, dtype=tf.float32)
    truth = Truth(LABELS, tf.constant(classes), tf.constant(truth_boxes, tf.float32))
    with tf.GradientTape() as tape:
        value = loss.sum(Outputs(LOGITS, boxes=given), truth)
    assert float(value) == pytest.approx(expected, rel=1e-5)
    moved = np.argwhere(np.any(tape.gradient(value, given).numpy(), -1)).tolist()
    assert moved == [[0, 2], [3, 0]]  # of each image the box of its own class


def test_focal_loss_weighs_uncertain_pixels():
    expected = 0.0
    for p, t in images():
        true_class = p[np.arange(len(t)), t]
        expected += ((1 - true_class) ** 2 * -np.log(true_class)).sum()
    assert float(focal_loss_sum(LOGITS, LABELS)) == pytest.approx(expected, rel=1e-5)


def test_generalised_dice_weighs_classes_by_their_area():
    expected = 0.0
    for p, t in images():
        one_hot = np.eye(3)[t]
        areas = one_hot.sum(0)
        present = areas > 0
        if present.any():
            weights = 1 / areas[present] ** 2
            overlap = (weights * (p * one_hot).sum(0)[present]).sum()
            expected += 1 - 2 * overlap / (weights * (p + one_hot).sum(0)[present]).sum()
    result = float(generalised_dice_loss_sum(LOGITS, LABELS))
    assert result == pytest.approx(expected, rel=1e-5)


def test_tversky_weighs_false_negatives_more_than_false_positives():
    expected = 0.0
    for p, t in images():
        one_hot = np.eye(3)[t]
        right = (p * one_hot).sum(0)
        positives, negatives = (p * (1 - one_hot)).sum(0), ((1 - p) * one_hot).sum(0)
        expected += 1 - ((right + 1) / (right + 0.3 * positives + 0.7 * negatives + 1)).mean()
    assert float(tversky_loss_sum(LOGITS, LABELS)) == pytest.approx(expected, rel=1e-5)


def test_lovasz_is_the_extension_of_one_minus_iou():
    """Sums over the errors, largest first, each times what its pixel adds to the set's loss."""
    expected = 0.0
    for p, t in images():
        class_losses = []
        for class_id in set(t.tolist()):
            true = t == class_id
            errors = np.abs(true - p[:, class_id])
            wrong, before, total = np.zeros(len(t), bool), 0.0, 0.0
            for pixel in np.argsort(-errors, kind="stable"):
                wrong[pixel] = True
                predicted = np.where(wrong, ~true, true)
                loss = 1 - (true & predicted).sum() / (true | predicted).sum()
                total += errors[pixel] * (loss - before)
                before = loss
            class_losses.append(total)
        if class_losses:
            expected += np.mean(class_losses)
    result = float(lovasz_softmax_loss_sum(LOGITS, LABELS))
    assert result == pytest.approx(expected, rel=1e-4)


def test_lovasz_of_masks_is_one_minus_their_iou():
    rng = np.random.default_rng(1)
    truth, predicted = rng.integers(0, 2, (2, 1, 9, 9))
    logits = 80.0 * np.eye(2, dtype=np.float32)[predicted]
    ious = [
        ((truth == c) & (predicted == c)).sum() / ((truth == c) | (predicted == c)).sum()
        for c in range(2)
    ]
    result = float(lovasz_softmax_loss_sum(logits, truth.astype(np.uint8)))
    assert result == pytest.approx(1 - np.mean(ious), rel=1e-5)


def test_class_weights_weigh_pixels_and_smoothing_spreads_the_truth():
    weights, smoothing, expected = (0.5, 2.0, 3.0), 0.12, 0.0
    for p, t in images():
        target = (1 - smoothing) * np.eye(3)[t] + smoothing / 3
        expected -= (np.array(weights)[t][:, None] * target * np.log(p)).sum()
    result = cross_entropy_sum(LOGITS, LABELS, weights, smoothing)
    assert float(result) == pytest.approx(expected, rel=1e-5)
    plain = float(cross_entropy_sum(LOGITS, LABELS))
    same = float(cross_entropy_sum(LOGITS, LABELS, (1.0, 1.0, 1.0)))
    assert same == pytest.approx(plain, rel=1e-6)


def test_boundary_pixels_lie_within_three_pixels_of_another_class():
    rng = np.random.default_rng(4)
    truth = np.repeat(np.repeat(rng.integers(0, 3, (1, 3, 4)), 9, 1), 9, 2).astype(np.uint8)
    truth[0, 5:8] = IGNORE
    logits = rng.normal(0, 2, (*truth.shape, 3)).astype(np.float32)
    expected, near = 0.0, 0
    for row, column in np.ndindex(truth[0].shape):
        label = truth[0, row, column]
        around = truth[0, max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4]
        if label != IGNORE and ((around != label) & (around != IGNORE)).any():
            expected -= np.log(softmax(logits[0, row, column])[label])
            near += 1
    assert 0 < near < truth.size
    result = float(boundary_cross_entropy_sum(logits, truth))
    assert result == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_is_the_divergence_of_softened_probabilities(temperature):
    teacher, expected = RNG.normal(0, 3, LOGITS.shape).astype(np.float32), 0.0
    for index in np.ndindex(LABELS.shape):
        if LABELS[index] != IGNORE:
            p, q = softmax(teacher[index] / temperature), softmax(LOGITS[index] / temperature)
            expected += temperature**2 * (p * np.log(p / q)).sum()
    (loss,) = choose_losses(["distillation"], temperature=temperature)
    logits, teacher_logits = tf.Variable(LOGITS), tf.Variable(teacher)
    with tf.GradientTape() as tape:
        value = loss.sum(Outputs(logits), Truth(LABELS), teacher_logits)
    assert float(value) == pytest.approx(expected, rel=1e-5)
    by_student, by_teacher = tape.gradient(value, [logits, teacher_logits])
    assert by_teacher is None
    # T (q - p), Hinton et al. 2015, equation 2, times T squared.
    valid = (LABELS != IGNORE)[..., None]
    q_minus_p = softmax(LOGITS / temperature) - softmax(teacher / temperature)
    np.testing.assert_allclose(by_student, temperature * q_minus_p * valid, atol=1e-5)
    same = loss.sum(Outputs(teacher), Truth(LABELS), teacher)
    assert float(same) == pytest.approx(0, abs=1e-4)


def test_class_weights_and_smoothing_reach_the_losses_that_take_them():
    names = ["cross_entropy", "dice", "boundary_cross_entropy"]
    chosen = choose_losses(names, (0.0, 0.0, 0.0))
    values = [float(loss.function(LOGITS, LABELS)) for loss in chosen]
    assert values[0] == values[2] == 0
    assert values[1] == float(dice_loss_sum(LOGITS, LABELS))
    assert [loss.summed_over for loss in chosen] == ["pixel", "image", "pixel"]
    (smoothed,) = choose_losses(["cross_entropy"], (), 0.1)
    expected = cross_entropy_sum(LOGITS, LABELS, label_smoothing=0.1)
    assert float(smoothed.function(LOGITS, LABELS)) == float(expected)


def test_losses_that_sort_or_pool_are_not_faster_fused():
    assert are_faster_fused(["cross_entropy", "dice", "focal"])
    assert not are_faster_fused(["dice", "lovasz_softmax"])
    assert not are_faster_fused(["boundary_cross_entropy"])


@pytest.fixture
def brier_loss(monkeypatch):
    """A loss from outside: one object and one line."""

    def brier_sum(logits, class_ids):
        valid = tf.cast(class_ids != IGNORE, logits.dtype)[..., None]
        errors = tf.one_hot(class_ids, logits.shape[-1]) - tf.nn.softmax(logits)
        return tf.reduce_sum(valid * tf.square(errors))

    monkeypatch.setattr(LOSSES, "_items", dict(LOSSES._items))
    loss = Loss(brier_sum, "pixel")
    LOSSES.register("brier", loss)
    return loss


def test_a_loss_from_outside_is_chosen_by_its_name(brier_loss):
    terms = parse_loss("brier+0.5*dice")
    assert terms == {"brier": 1.0, "dice": 0.5}
    chosen = choose_losses(terms, (1.0, 2.0, 3.0), 0.1)
    assert chosen[0] is brier_loss
    expected = sum(((np.eye(3)[t] - p) ** 2).sum() for p, t in images())
    assert float(chosen[0].function(LOGITS, LABELS)) == pytest.approx(expected, rel=1e-5)


def with_a_teacher_that_is_right(loss: Loss):
    """A loss as a function of logits and class ids alone."""

    def call(logits, class_ids):
        classes = np.where(class_ids == IGNORE, 0, class_ids)
        teacher = tf.constant(50 * np.eye(3)[classes], logits.dtype)
        return loss.sum(Outputs(logits), Truth(class_ids), teacher)

    return call


OF_PIXELS = {name: loss for name, loss in LOSSES.items() if loss.reads == "pixels"}


@pytest.mark.parametrize(
    "loss", [with_a_teacher_that_is_right(loss) for loss in OF_PIXELS.values()], ids=list(OF_PIXELS)
)
class TestEveryLossOfPixels:
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

    def test_a_confident_and_right_model_has_no_loss(self, loss):
        right = 50 * np.eye(3, dtype=np.float32)[np.where(LABELS == IGNORE, 0, LABELS)]
        assert float(loss(right, LABELS)) == pytest.approx(0, abs=1e-4)


def test_valid_pixels_are_counted():
    assert float(count_valid_pixels(LABELS)) == (LABELS != IGNORE).sum()


def test_a_sum_of_terms_is_parsed_with_its_weights():
    assert parse_loss("dice") == {"dice": 1.0}
    terms = parse_loss("cross_entropy + 0.5*dice+2e-1 * focal")
    assert terms == {"cross_entropy": 1.0, "dice": 0.5, "focal": 0.2}
    assert list(terms) == ["cross_entropy", "dice", "focal"]


def test_parsing_loads_no_tensorflow():
    code = (
        "import sys; from petseg.losses.terms import parse_loss; "
        "parse_loss('cross_entropy+0.5*dice'); assert 'tensorflow' not in sys.modules"
    )
    done = commands.run_python("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "text", ["", "huber", "dice+dice", "0*dice", "-1*dice", "x*dice", "dice+", "inf*dice", "2*"]
)
def test_a_malformed_sum_is_refused(text):
    with pytest.raises(UserError, match=r"^config\.train\.loss=.*cross_entropy\+0\.5\*dice$"):
        parse_loss(text)


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
def test_malformed_class_weights_are_refused(text):
    with pytest.raises(UserError, match=r"^config\.train\.class_weights="):
        parse_class_weights(text)
