import numpy as np
import tensorflow as tf

from petseg.data.label_map import IGNORE
from petseg.inference import eval_step
from petseg.losses.terms import choose_losses
from petseg.models.encoders.base import IMAGE

CLASSES, SIZE = 3, 4


class Logits:
    """A model whose logits are its images."""

    def logits(self, known):
        return known[IMAGE]


def test_the_losses_are_those_of_the_whole_split_however_it_is_cut():
    random = np.random.default_rng(0)
    images = random.normal(size=(5, SIZE, SIZE, CLASSES)).astype(np.float32)
    masks = random.integers(0, CLASSES, (5, SIZE, SIZE)).astype(np.uint8)
    masks[1, :3] = IGNORE  # batches differ in valid pixels
    losses = choose_losses(["cross_entropy", "dice"], (1.0, 2.0, 3.0), 0.1)
    step = eval_step.make_eval_step(Logits(), CLASSES, tf.distribute.get_strategy(), losses)

    def batches(size):
        for start in range(0, 5, size):
            image, mask = images[start : start + size], masks[start : start + size]
            filling = size - len(image)
            yield {
                "image": tf.pad(image, [(0, filling), (0, 0), (0, 0), (0, 0)]),
                "mask": tf.pad(mask, [(0, filling), (0, 0), (0, 0)], constant_values=IGNORE),
                "weight": tf.constant([1] * len(image) + [0] * filling, tf.int64),
            }

    pixels = (masks != IGNORE).sum()
    cross_entropy, dice = (loss.function(tf.constant(images), masks).numpy() for loss in losses)
    expected = [cross_entropy / pixels, dice / 5]
    advanced = []
    for size in (1, 2, 5):
        counted = eval_step.evaluate(step, batches(size), losses, lambda: advanced.append(1))
        np.testing.assert_allclose(counted.losses, expected, rtol=1e-5)
        assert counted.confusion.sum() == pixels
    assert len(advanced) == 5 + 3 + 1


def test_without_losses_there_are_none():
    step = eval_step.make_eval_step(Logits(), CLASSES, tf.distribute.get_strategy())
    batch = {
        "image": tf.zeros([1, SIZE, SIZE, CLASSES]),
        "mask": tf.zeros([1, SIZE, SIZE], tf.uint8),
        "weight": tf.ones([1], tf.int64),
    }
    assert eval_step.evaluate(step, [batch]).losses.shape == (0,)
