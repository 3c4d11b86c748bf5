"""Losses and gradients of a replica's share of a batch: a pure function of the weights."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import keras
import tensorflow as tf

from petseg.losses.base import Outputs, Truth
from petseg.losses.presence import labels_of_masks
from petseg.losses.terms import choose_losses
from petseg.models.encoders.base import IMAGE
from petseg.models.segmentation_model import SegmentationModel


@dataclasses.dataclass(frozen=True)
class LossOptions:
    """What is minimised.

    Attributes:
      terms: Weight of each term, by names of registry.LOSSES.
      class_weights: Weight of a pixel of each class in the cross-entropies; () for 1.
      label_smoothing: Of the cross-entropies: share of the truth spread over all classes.
      dropout_rate: Share of each level's channels that is dropped, drawn for each example.
      temperature: By which logits are divided before they are compared with a teacher's.
      teacher: Frozen; for the terms that take its logits. It needs images.
    """

    terms: Mapping[str, float]
    class_weights: Sequence[float] = ()
    label_smoothing: float = 0.0
    dropout_rate: float = 0.0
    temperature: float = 1.0
    teacher: SegmentationModel | None = None


@dataclasses.dataclass(frozen=True)
class BatchShares:
    """How a global batch is cut.

    Attributes:
      global_batch: Images per step, over all replicas.
      replicas: Number of replicas that share it evenly.
      microbatches: Parts of a replica's share, computed one after the other.
    """

    global_batch: int
    replicas: int = 1
    microbatches: int = 1

    @property
    def count(self) -> int:
        """Number of parts of a global batch."""
        return self.replicas * self.microbatches

    @property
    def size(self) -> int:
        """Images of each part."""
        return self.global_batch // self.count


class Gradients(Protocol):
    """Gives a replica's part of the losses and of their gradient."""

    def __call__(
        self,
        values: list[tf.Tensor],
        known: dict[str, tf.Tensor],
        truth: Truth,
        replica: tf.Tensor,
        seed: tf.Tensor,
        valid_pixels: tf.Tensor,
        scale: tf.Tensor,
    ) -> list[tf.Tensor]:
        """Sums over replicas are the losses and the gradients of the global batch.

        Args:
          values: Of the weights.
          known: What is known of the replica's examples; see SegmentationModel.features.
          truth: Of the replica's examples.
          replica: int32 [], the replica's number.
          seed: int64 [2], of the dropout; another one at each step.
          valid_pixels: float32 [], pixels of the global batch that are not ignored.
          scale: float32 [], factor of the gradients (loss scaling).

        Returns:
          float32 [] for each term, times its weight; then one tensor for each weight.
        """


def make_gradients(
    model: SegmentationModel,
    weights: Sequence[keras.Variable],
    losses: LossOptions,
    shares: BatchShares,
    *,
    xla: bool,
    compile_losses: bool = False,
) -> Gradients:
    """Builds the function that computes gradients.

    Args:
      model: Whose other weights it reads.
      weights: For which gradients are computed; the backward pass goes no further.
      losses: What is minimised.
      shares: How the global batch is cut.
      xla: Compile forward and backward computation with XLA.
      compile_losses: Compile at least the losses and their gradient with XLA.
    """
    chosen = choose_losses(
        losses.terms, losses.class_weights, losses.label_smoothing, losses.temperature
    )
    # Only what the encoder computes is dropped, not parts of the image.
    channels = [0 if level.stage == IMAGE else level.channels for level in model.levels.values()]

    def compute_losses(
        outputs: Outputs,
        truth: Truth,
        teacher_logits: tf.Tensor | None,
        valid_pixels: tf.Tensor,
        scale: tf.Tensor,
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Each term, and the gradient of their sum, times the scale, by the given outputs."""
        values = []
        images = tf.constant(shares.global_batch, tf.float32)
        if truth.image_labels is None and outputs.presence is not None:
            labels = labels_of_masks(truth.mask, outputs.presence.shape[-1])
            truth = truth._replace(image_labels=labels)
        with tf.GradientTape() as tape:
            tape.watch(_given(outputs))
            for loss, weight in zip(chosen, losses.terms.values(), strict=True):
                count = valid_pixels if loss.summed_over == "pixel" else images
                total = loss.sum(outputs, truth, teacher_logits)
                values.append(weight * tf.math.divide_no_nan(total, count))
            scaled = tf.add_n(values) * scale
        return values, tape.gradient(scaled, _given(outputs), None, "zero")

    if compile_losses:
        compute_losses = tf.function(compute_losses, autograph=False, jit_compile=True)

    def of_part(
        values: list[tf.Tensor],
        known: dict[str, tf.Tensor],
        truth: Truth,
        factors: list[tf.Tensor | None],
        valid_pixels: tf.Tensor,
        scale: tf.Tensor,
    ) -> list[tf.Tensor]:
        # Before the tape, and as it was trained: no dropout.
        teacher_logits = losses.teacher.logits(known) if losses.teacher else None
        # Only these weights are watched: what lies before them stays off the tape.
        with (
            tf.GradientTape(watch_accessed_variables=False) as tape,
            keras.StatelessScope(list(zip(weights, values, strict=True))),
        ):
            tape.watch(values)
            features = [
                feature if factor is None else feature * tf.cast(factor, feature.dtype)
                for feature, factor in zip(model.features(known), factors, strict=True)
            ]
            outputs = model.decode(features, training=True, image_class=truth.image_class)
        losses_of_part, by_outputs = compute_losses(
            outputs, truth, teacher_logits, valid_pixels, scale
        )
        return [*losses_of_part, *tape.gradient(_given(outputs), values, by_outputs, "zero")]

    if xla:
        of_part = tf.function(of_part, autograph=False, jit_compile=True)

    def of_replica(
        values: list[tf.Tensor],
        known: dict[str, tf.Tensor],
        truth: Truth,
        replica: tf.Tensor,
        seed: tf.Tensor,
        valid_pixels: tf.Tensor,
        scale: tf.Tensor,
    ) -> list[tf.Tensor]:
        size, total = shares.size, None
        for part in range(shares.microbatches):
            # A part waits for the sum before it, or all would be in memory at once.
            with tf.control_dependencies(total or []):
                part_known, part_truth = tf.nest.map_structure(
                    lambda rows, start=part * size: (
                        None if rows is None else tf.identity(rows[start : start + size])
                    ),
                    (known, truth),
                )
            factors: list[tf.Tensor | None] = [None] * len(channels)
            if losses.dropout_rate:
                number = replica * shares.microbatches + part
                factors = draw_channel_factors(channels, losses.dropout_rate, seed, number, shares)
            new = of_part(values, part_known, part_truth, factors, valid_pixels, scale)
            total = [a + b for a, b in zip(total, new, strict=True)] if total else new
        return total

    return of_replica


def _given(outputs: Outputs) -> list[tf.Tensor]:
    return [output for output in outputs if output is not None]


def draw_channel_factors(
    channels: Sequence[int], rate: float, seed: tf.Tensor, part: tf.Tensor, shares: BatchShares
) -> list[tf.Tensor | None]:
    """Spatial dropout: factors of each level's channels, drawn for each example.

    The draws are made for the global batch and cut to one part of it, so that any number of
    replicas drops the same channels of the same examples. Call it outside of XLA, which draws
    other numbers from the same seed.

    Args:
      channels: Number of channels of each level; 0 drops none.
      rate: Share of channels dropped, at least 0 and below 1.
      seed: int64 [2], another one at each step.
      part: int32 [], number of the part of the global batch.
      shares: How the global batch is cut.

    Returns:
      For each level float32 [images, 1, 1, channels]: 0, or 1 / (1 - rate); or None.
    """
    factors, size = [], shares.size
    for index, count in enumerate(channels):
        if not count:
            factors.append(None)
            continue
        draws = tf.random.stateless_uniform(
            [size * shares.count, count], tf.random.fold_in(seed, index)
        )
        keep = draws[part * size : (part + 1) * size] >= rate
        factors.append((tf.cast(keep, tf.float32) / (1 - rate))[:, None, None, :])
    return factors
