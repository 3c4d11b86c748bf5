"""The counts of an evaluation, however the split is cut and shared."""

import numpy as np
import pytest
import tensorflow as tf
from testing.commands import run_python

from petseg.data.label_map import IGNORE
from petseg.inference import eval_step
from petseg.losses.terms import choose_losses
from petseg.models.encoders.base import IMAGE
from petseg.models.segmentation_model import Outputs

CLASSES, SIZE = 3, 4


class Logits:
    """A model whose logits are its images, and those of presence their first pixels."""

    def outputs(self, known):
        return Outputs(known[IMAGE], known[IMAGE][:, 0, 0])


def areas_by_hand(masks, predicted):
    """Pixels of each class in each image that are right, true and predicted."""
    valid = masks != IGNORE
    planes = [
        np.stack([(masks == c) & (predicted == c), masks == c, (predicted == c) & valid], -1)
        for c in range(CLASSES)
    ]
    return np.stack(planes, 1).sum((2, 3))


def test_losses_and_areas_are_those_of_the_whole_split_however_it_is_cut():
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
    expected_areas = areas_by_hand(masks, images.argmax(-1))
    advanced = []
    for size in (1, 2, 5):
        counted = eval_step.evaluate(step, batches(size), losses, lambda: advanced.append(1))
        np.testing.assert_allclose(counted.losses, expected, rtol=1e-5)
        assert counted.confusion.sum() == pixels
        np.testing.assert_array_equal(counted.areas, expected_areas)
    assert len(advanced) == 5 + 3 + 1


def test_without_losses_there_are_none():
    step = eval_step.make_eval_step(Logits(), CLASSES, tf.distribute.get_strategy())
    batch = {
        "image": tf.zeros([1, SIZE, SIZE, CLASSES]),
        "mask": tf.zeros([1, SIZE, SIZE], tf.uint8),
        "weight": tf.ones([1], tf.int64),
    }
    assert eval_step.evaluate(step, [batch]).losses.shape == (0,)


# Logical devices must be made before TensorFlow starts, hence a process of its own.
ON_THREE_REPLICAS = """
import numpy as np, tensorflow as tf
from petseg.inference import eval_step
from petseg.metrics.measure import measure
from petseg.models.segmentation_model import Outputs
from petseg.training.distribution import local_devices

class Logits:
    def outputs(self, known):
        return Outputs(known["image"], known["image"][:, 1, 2], known["image"][:, 3, 3])

strategy = tf.distribute.MirroredStrategy(local_devices(3))
random = np.random.default_rng(0)
count = 10  # and two more that fill the last batch
images = random.normal(size=(12, 4, 5, 3)).astype(np.float32)
masks = random.integers(0, 3, (12, 4, 5)).astype(np.uint8)
masks[3] = masks[count:] = 255
weights = np.arange(12) < count
data = tf.data.Dataset.from_tensor_slices(
    {"image": images, "mask": masks, "weight": weights.astype(np.int64),
     "image_class": np.where(weights, np.arange(12) % 4, -1)}
)
one = tf.distribute.get_strategy()
found = []
shared_batches = strategy.experimental_distribute_dataset(data.batch(6))
for place, batches in ((one, data.batch(6)), (strategy, shared_batches)):
    counted = eval_step.evaluate(eval_step.make_eval_step(Logits(), 3, place), batches)
    found.append((counted, measure(counted.confusion, counted.areas, ("background", "a", "b"))))
(alone, by_one), (shared, by_three) = found
np.testing.assert_array_equal(alone.areas, shared.areas)
assert alone.areas.shape == (count, 3, 3) and alone.areas.any((1, 2)).sum() == count - 1
for counted in (alone, shared):
    np.testing.assert_array_equal(counted.presence_logits, images[:count, 1, 2])
    predicted = images[:count, 3, 3].argmax(-1)
    expected = np.stack([np.arange(count) % 4, predicted], 1)
    np.testing.assert_array_equal(counted.image_classes, expected)
assert by_one == by_three and 0 < by_one["image_dice"] < 1, (by_one, by_three)
"""


@pytest.mark.slow
def test_replicas_add_up_to_the_figures_of_one_to_the_last_bit():
    done = run_python("-c", ON_THREE_REPLICAS)
    assert done.returncode == 0, done.stderr
