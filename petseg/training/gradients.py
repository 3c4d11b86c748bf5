"""Losses and gradients of a replica's share of a batch: a pure function of the weights."""

from collections.abc import Callable, Mapping, Sequence

import keras
import tensorflow as tf

from petseg.losses.terms import choose_losses
from petseg.models import vgg16_skip
from petseg.models.vgg16_skip import SkipModel

Gradients = Callable[..., list[tf.Tensor]]


def make_gradients(
    model: SkipModel,
    weights: Sequence[keras.Variable],
    *,
    terms: Mapping[str, float],
    class_weights: Sequence[float] = (),
    label_smoothing: float = 0.0,
    dropout_rate: float,
    global_batch: int,
    replicas: int,
    microbatches: int,
    xla: bool,
    fuse_losses: bool = False,
) -> Gradients:
    """A function that gives a replica's part of the losses and of their gradient.

    Args:
      model: whose weights it reads, but for those that are handed over.
      weights: which gradients are wanted for; the backward pass goes no further.
      terms: of the loss, by name, with their weights.
      class_weights: see losses.terms.choose_losses.
      label_smoothing: see losses.terms.choose_losses.
      dropout_rate: share of each pool's channels dropped, each example its own.
      global_batch: images a step, over all replicas.
      replicas: that share it.
      microbatches: parts of a replica's share, computed one after the other.
      xla: compile it with XLA.
      fuse_losses: compile at least the losses and their gradient so; on a CPU it halves the
        time that these passes over all pixels take.

    Returns:
      A function: values of the weights; what is known of the replica's examples, for
      SkipModel.pools; their masks, uint8; int32 []
      number of the replica; int64 [2] seed of the dropout; float32 [] valid pixels of the
      global batch; float32 [] factor of the gradients -> one float32 [] a term, times its
      weight, then one tensor a weight of the model. Sums over replicas are those of the
      global batch.
    """
    shares = replicas * microbatches
    chosen = choose_losses(terms, class_weights, label_smoothing)
    channels = [pool.shape[-1] for pool in model.backbone.outputs]

    def compute_losses(
        logits: tf.Tensor, mask: tf.Tensor, valid_pixels: tf.Tensor, scale: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Each term, and the gradient of their sum, times the scale, by the logits."""
        found = []
        with tf.GradientTape() as tape:
            tape.watch(logits)
            for loss, weight in zip(chosen, terms.values(), strict=True):
                is_per_pixel = loss.summed_over == "pixel"
                count = valid_pixels if is_per_pixel else tf.constant(global_batch, tf.float32)
                total = loss.function(logits, mask)
                found.append(weight * tf.math.divide_no_nan(total, count))
            scaled = tf.add_n(found) * scale
        return found, tape.gradient(scaled, logits)

    if fuse_losses:
        compute_losses = tf.function(compute_losses, jit_compile=True)

    def of_share(
        values: list[tf.Tensor],
        known: dict[int, tf.Tensor],
        mask: tf.Tensor,
        factors: list[tf.Tensor],
        valid_pixels: tf.Tensor,
        scale: tf.Tensor,
    ) -> list[tf.Tensor]:
        # Only the handed weights are watched: what lies before them stays off the tape.
        with (
            tf.GradientTape(watch_accessed_variables=False) as tape,
            keras.StatelessScope(list(zip(weights, values, strict=True))),
        ):
            tape.watch(values)
            pools = model.pools(known)
            pools = [p * tf.cast(f, p.dtype) for p, f in zip(pools, factors, strict=True)]
            logits = model.head(pools, training=True)
        found, by_logits = compute_losses(logits, mask, valid_pixels, scale)
        return [*found, *tape.gradient(logits, values, by_logits, "zero")]

    if xla:
        of_share = tf.function(of_share, jit_compile=True)

    def of_replica(
        values: list[tf.Tensor],
        known: dict[int, tf.Tensor],
        mask: tf.Tensor,
        replica: tf.Tensor,
        seed: tf.Tensor,
        *rest: tf.Tensor,
    ) -> list[tf.Tensor]:
        size, total = global_batch // shares, None
        for part in range(microbatches):
            # A part waits for the sum before it, or all would be in memory at once.
            with tf.control_dependencies(total or []):
                own_known, own_mask = tf.nest.map_structure(
                    lambda rows, start=part * size: tf.identity(rows[start : start + size]),
                    (known, mask),
                )
            share = replica * microbatches + part
            factors = [tf.ones([])] * len(channels)
            if dropout_rate:
                factors = vgg16_skip.draw_channel_factors(
                    channels, size, dropout_rate, seed, share, shares
                )
            new = of_share(values, own_known, own_mask, factors, *rest)
            total = [a + b for a, b in zip(total, new, strict=True)] if total else new
        return total

    return of_replica
