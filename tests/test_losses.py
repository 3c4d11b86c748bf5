import numpy as np
import pytest
import tensorflow as tf

from petseg.label_map import IGNORE
from petseg.modeling import losses

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


@pytest.mark.parametrize("loss", [losses.cross_entropy_sum, losses.dice_loss_sum])
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
        logits, labels = tf.Variable(LOGITS[:1]), tf.constant(LABELS[:1])
        with tf.GradientTape() as tape:
            value = loss(logits, labels)
        gradient = tape.gradient(value, logits).numpy()
        for _ in range(20):
            direction = RNG.normal(0, 1, logits.shape).astype(np.float32)
            step = 1e-2
            ahead = float(loss(logits + step * direction, labels))
            behind = float(loss(logits - step * direction, labels))
            expected = (gradient * direction).sum()
            assert (ahead - behind) / (2 * step) == pytest.approx(expected, rel=2e-2, abs=2e-3)

    def test_a_sure_and_right_model_has_no_loss(self, loss):
        right = 50 * np.eye(3, dtype=np.float32)[np.where(LABELS == IGNORE, 0, LABELS)]
        assert float(loss(right, LABELS)) == pytest.approx(0, abs=1e-4)


def test_valid_pixels_are_counted():
    assert float(losses.count_valid_pixels(LABELS)) == (LABELS != IGNORE).sum()
