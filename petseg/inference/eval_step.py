"""The evaluation step: counts of a (distributed) batch at the model's size."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf

from petseg.input_pipeline.truth import TruthOptions, truth_of
from petseg.losses.base import UNKNOWN_CLASS, Loss
from petseg.losses.presence import labels_of_masks
from petseg.metrics import pixel_counts
from petseg.models import features
from petseg.models.segmentation_model import SegmentationModel

EvalStep = Callable[[dict[str, tf.Tensor]], tuple[tf.Tensor, ...]]


@dataclasses.dataclass(frozen=True)
class SplitCounts:
    """Counts of one pass over a split.

    Attributes:
      confusion: int64 [classes, classes], rows the truth.
      images: number of images.
      areas: int64 [images, classes, 3], in the split's order: pixels of each class in each image
        that are predicted rightly, true, and predicted.
      losses: float64 [losses], means over the split's pixels or images, as each loss says.
      presence_logits: float32 [images, classes], of the presence head; zeros without one.
      image_labels: uint8 [images, classes], whether each class is in an image, 1, 0 or IGNORE.
      image_classes: int64 [images, 2], the class of each image and the one that was predicted;
        UNKNOWN_CLASS where the input does not give it, or the model does not predict any.
    """

    confusion: np.ndarray
    images: int
    areas: np.ndarray
    losses: np.ndarray
    presence_logits: np.ndarray
    image_labels: np.ndarray
    image_classes: np.ndarray


def make_eval_step(
    model: SegmentationModel,
    num_classes: int,
    strategy: tf.distribute.Strategy,
    losses: Sequence[Loss] = (),
    teacher: SegmentationModel | None = None,
    truth_options: TruthOptions | None = None,
) -> EvalStep:
    """Compiles the counting of one (distributed) batch, of images or of cached features.

    Args:
      model: What is evaluated.
      num_classes: Its classes.
      strategy: Whose replicas share a batch.
      losses: What is summed beside the counts.
      teacher: For the losses that take one; it needs images.
      truth_options: What is made of the masks for the losses; by default nothing.

    Returns:
      A function: batch of the evaluation pipeline -> int64 [classes, classes] counts with the
      truth in rows, int64 [] images, int64 [global batch, classes, 3] pixels of each class in each
      image (see pixel_counts.areas), float32 [1 + losses] 0, and sums over the batch, float32
      [global batch, classes] logits of the presence head, or zeros, int64 [global batch,
      classes] labels of presence, those of the batch or else of its masks, and int64 [global
      batch, 2] SplitCounts.image_classes. All cover all replicas.
    """
    truth_options = truth_options or TruthOptions()

    def count(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        known = features.decode(batch)
        outputs = model.outputs(known)
        logits, truth = outputs.pixels, truth_of(batch, truth_options)
        if truth.image_labels is None:
            truth = truth._replace(image_labels=labels_of_masks(truth.mask, num_classes))
        teacher_logits = teacher.logits(known) if teacher else None
        predicted = tf.argmax(logits, axis=-1)
        counts = pixel_counts.count_pairs(batch["mask"], predicted, num_classes)
        # Each replica fills its row of a matrix of zeros, so that the sum joins the rows.
        context = tf.distribute.get_replica_context()
        replicas = strategy.num_replicas_in_sync
        row = tf.one_hot(context.replica_id_in_sync_group, replicas, dtype=tf.int64)
        placed = row[:, None, None, None] * pixel_counts.areas(counts)
        presence = tf.zeros_like(logits[:, 0, 0])
        if outputs.presence is not None:
            presence = outputs.presence
        placed_presence = tf.cast(row, tf.float32)[:, None, None] * presence
        classes = [
            tf.fill(tf.shape(batch["weight"]), tf.constant(UNKNOWN_CLASS, tf.int64))
            if known_class is None
            else known_class
            for known_class in (
                truth.image_class,
                None if outputs.image_class is None else tf.argmax(outputs.image_class, -1),
            )
        ]
        placed_classes = row[:, None, None] * tf.stack(classes, 1)
        return (
            tf.reduce_sum(counts, 0),
            tf.reduce_sum(batch["weight"]),
            tf.reshape(placed, [-1, num_classes, 3]),
            # Never empty: replicas exchange it.
            tf.stack(
                [
                    tf.zeros([]),
                    *(loss.sum(outputs, truth, teacher_logits) for loss in losses),
                ]
            ),
            tf.reshape(placed_presence, [-1, num_classes]),
            tf.reshape(
                row[:, None, None] * tf.cast(truth.image_labels, tf.int64), [-1, num_classes]
            ),
            tf.reshape(placed_classes, [-1, 2]),
        )

    @tf.function(autograph=False)
    def eval_step(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        per_replica = strategy.run(count, args=(batch,))
        return tuple(
            strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None) for value in per_replica
        )

    return eval_step


def evaluate(
    eval_step: EvalStep,
    batches: Iterable[dict[str, tf.Tensor]],
    losses: Sequence[Loss] = (),
    advance: Callable[[], None] = lambda: None,
) -> SplitCounts:
    """Counts a split in one pass.

    Args:
      eval_step: from make_eval_step.
      batches: (distributed) batches of the evaluation pipeline.
      losses: what `eval_step` was made with.
      advance: called after each batch.
    """
    confusion, images = np.zeros((), np.int64), 0
    areas, presence_logits, image_labels, image_classes = [], [], [], []
    sums = np.zeros(len(losses))
    for batch in batches:
        counts, count, image_areas, loss_sums, of_presence, labels, of_classes = eval_step(batch)
        confusion = confusion + counts.numpy()
        images += int(count.numpy())
        areas.append(image_areas.numpy())
        presence_logits.append(of_presence.numpy())
        image_labels.append(labels.numpy().astype(np.uint8))
        image_classes.append(of_classes.numpy())
        sums += loss_sums.numpy()[1:]
        advance()
    # The padding of the last batch comes last.
    pixels = max(int(confusion.sum()), 1)
    counts = np.array([pixels if loss.summed_over == "pixel" else images for loss in losses])
    return SplitCounts(
        confusion,
        images,
        np.concatenate(areas)[:images],
        sums / counts,
        np.concatenate(presence_logits)[:images],
        np.concatenate(image_labels)[:images],
        np.concatenate(image_classes)[:images],
    )


def predict(model: SegmentationModel, images: np.ndarray) -> np.ndarray:
    """Predicts class ids of images of the model's size.

    Args:
      model: trained.
      images: uint8 [images, height, width, 3], RGB.

    Returns:
      uint8 [images, height, width].
    """
    return tf.cast(tf.argmax(model(tf.constant(images)), axis=-1), tf.uint8).numpy()
