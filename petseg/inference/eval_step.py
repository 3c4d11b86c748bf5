"""The one forward path that validation, evaluate, predict and export share."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from petseg.metrics import pixel_counts
from petseg.models import features
from petseg.models.segmentation_model import SegmentationModel

EvalStep = Callable[[dict[str, tf.Tensor]], tuple[tf.Tensor, ...]]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What one pass over a split counted.

    Attributes:
      confusion: int64 [classes, classes], rows the truth.
      images: how many images were counted.
      image_mean_ious: float32 [images], in the split's order; NaN where no pixel counts.
    """

    confusion: np.ndarray
    images: int
    image_mean_ious: np.ndarray


def make_eval_step(
    model: SegmentationModel, num_classes: int, strategy: tf.distribute.Strategy
) -> EvalStep:
    """Compiles the counting of one (distributed) batch of make_for_eval, images or features.

    Returns:
      A function: batch -> int64 [classes, classes] counts with the truth in rows,
      int64 [] images, float32 [global batch] mean IoU of each image; of all replicas.
    """

    def count(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        predicted = tf.argmax(model.logits(features.decode(batch)), axis=-1)
        counts = pixel_counts.count_pairs(batch["mask"], predicted, num_classes)
        # Each replica fills its own places, so that a sum puts them together.
        context = tf.distribute.get_replica_context()
        own = tf.one_hot(context.replica_id_in_sync_group, strategy.num_replicas_in_sync)
        ious = pixel_counts.image_mean_iou(counts)[None]
        placed = tf.where(own[:, None] > 0, ious, tf.zeros_like(ious))
        return (
            tf.reduce_sum(counts, 0),
            tf.reduce_sum(batch["weight"]),
            tf.reshape(placed, [-1]),
        )

    @tf.function
    def eval_step(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        per_replica = strategy.run(count, args=(batch,))
        return tuple(
            strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None) for value in per_replica
        )

    return eval_step


def evaluate(
    eval_step: EvalStep, batches: Iterable[dict[str, tf.Tensor]], num_batches: int
) -> Evaluation:
    """One pass over (distributed) batches of make_for_eval; counts are exact.

    A terminal shows a bar while it lasts.
    """
    confusion, images, ious = np.zeros((), np.int64), 0, []
    for batch in tqdm(batches, "evaluate", num_batches, leave=False, unit="batch", disable=None):
        counts, count, image_ious = eval_step(batch)
        confusion = confusion + counts.numpy()
        images += int(count.numpy())
        ious.append(image_ious.numpy())
    # What fills the last batch up comes last.
    return Evaluation(confusion, images, np.concatenate(ious)[:images])


def predict(model: SegmentationModel, images: np.ndarray) -> np.ndarray:
    """Class ids of images of the model's size.

    Args:
      model: trained.
      images: uint8 [images, size, size, 3], RGB.

    Returns:
      uint8 [images, size, size].
    """
    return tf.cast(tf.argmax(model(tf.constant(images)), axis=-1), tf.uint8).numpy()
