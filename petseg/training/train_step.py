"""Training steps, the same for every strategy, several in one call of a compiled graph."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol

import tensorflow as tf

from petseg.data.label_map import IMAGE_LABELS
from petseg.input_pipeline import augment
from petseg.losses.base import count_valid_pixels
from petseg.models import features
from petseg.seeds import Stream, fold_seed
from petseg.training import optimizers
from petseg.training import state as state_lib
from petseg.training.gradients import Gradients
from petseg.training.optimizers import Optimizer
from petseg.training.schedules import Schedule
from petseg.training.state import State

_SUM = tf.distribute.ReduceOp.SUM


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """What a step does beside gradient and update.

    Attributes:
      loss_terms: Names of the losses, in the order of the gradient function's results.
      clip_norm: Greatest norm of the gradient over all weights; 0 does not clip.
      average_decay: Decay of the moving averages of the weights.
      seed: Seed of the dropout.
      is_timed: Measure how long steps wait for input; TensorFlow's deterministic mode has no
        clock.
      returned_gradients: Indices of weights whose gradients are returned.
    """

    loss_terms: Sequence[str]
    clip_norm: float = 0.0
    average_decay: float = 0.0
    seed: int = 0
    is_timed: bool = True
    returned_gradients: Sequence[int] = ()


class TrainSteps(Protocol):
    """Takes several training steps."""

    def __call__(
        self,
        batches: Iterator,
        first_step: tf.Tensor,
        stage_start: tf.Tensor,
        count: tf.Tensor,
        rate_factor: tf.Tensor,
    ) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
        """Takes the next steps.

        Args:
          batches: Iterator over (distributed) training batches.
          first_step: int64 [], steps taken before.
          stage_start: int64 [], the step with which the stage began.
          count: int32 [], number of steps.
          rate_factor: float32 [], factor of the scheduled learning rate.

        Returns:
          For each step a row of the loss ('loss/total') and its terms ('loss/NAME'), of the
          gradient's norm ('gradient_norm'), of 1 where all was finite ('finite') and of the
          seconds that it waited for its batch ('wait_s'): float32 [steps] each. And the
          gradients of the last step, not clipped, of options.returned_gradients.
        """


def make_train_steps(
    state: State,
    gradients: Gradients,
    optimizer: Optimizer,
    schedule: Schedule,
    strategy: tf.distribute.Strategy,
    options: StepOptions,
) -> TrainSteps:
    """Compiles training steps; the result does not depend on the number of replicas.

    A step whose loss or gradient is not finite changes no weight.

    Args:
      state: Made in the strategy's scope.
      gradients: From gradients.make_gradients.
      optimizer: How weights follow gradients.
      schedule: Of the learning rate, from the stage's first step on.
      strategy: Whose replicas share a batch.
      options: See StepOptions.
    """
    terms, returned = options.loss_terms, options.returned_gradients
    names = [*(f"loss/{term}" for term in terms), "loss/total", "gradient_norm", "finite"]
    names.append("wait_s")

    def replica_step(
        batch: dict[str, tf.Tensor], step: tf.Tensor, rate: tf.Tensor
    ) -> list[tf.Tensor]:
        batch = augment.apply(batch)
        context = tf.distribute.get_replica_context()
        scale = tf.identity(state.counts["loss_scale"]) if state.has_loss_scale else tf.ones([])
        local = gradients(
            [tf.identity(weight.value) for weight in state.weights],
            features.decode(batch),
            batch["mask"],
            context.replica_id_in_sync_group,
            fold_seed(options.seed, Stream.DROPOUT, step),
            context.all_reduce(_SUM, count_valid_pixels(batch["mask"])),
            scale,
            batch.get(IMAGE_LABELS),
        )
        reduced = context.all_reduce(_SUM, local)
        losses, summed = reduced[: len(terms)], reduced[len(terms) :]
        total_loss = tf.add_n(losses)
        unscaled = [gradient / scale for gradient in summed]
        norm = tf.linalg.global_norm(unscaled)
        # A norm is finite only if every gradient is.
        is_finite = tf.math.is_finite(norm) & tf.math.is_finite(total_loss)
        clipped = optimizers.clip(unscaled, options.clip_norm)
        new = tf.cond(
            is_finite,
            lambda: state_lib.after_update(state, optimizer, clipped, rate, options.average_decay),
            lambda: state_lib.after_overflow(state),
        )
        context.merge_call(_assign, (state.variables(), new))
        figures = [*losses, total_loss, norm, tf.cast(is_finite, tf.float32)]
        return [*figures, *(unscaled[index] for index in returned)]

    def clock_s() -> tf.Tensor:
        return tf.timestamp() if options.is_timed else tf.zeros([], tf.float64)

    @tf.function(autograph=False, reduce_retracing=True)
    def train_steps(
        batches: Iterator,
        first_step: tf.Tensor,
        stage_start: tf.Tensor,
        count: tf.Tensor,
        rate_factor: tf.Tensor,
    ) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
        def take_one(
            index: tf.Tensor, rows: tf.TensorArray, _: list[tf.Tensor]
        ) -> tuple[tf.Tensor, tf.TensorArray, list[tf.Tensor]]:
            step = first_step + tf.cast(index, tf.int64)
            rate = rate_factor * schedule(step - stage_start)
            with tf.control_dependencies([rows.flow]):  # the step before has ended
                before_s = clock_s()
            with tf.control_dependencies([before_s]):
                batch = batches.get_next()
            with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
                wait_s = tf.cast(clock_s() - before_s, tf.float32)
            per_replica = strategy.run(replica_step, args=(batch, step, rate))
            # Sums over all replicas already: the same on each.
            row = [strategy.experimental_local_results(value)[0] for value in per_replica]
            last_gradients = row[len(names) - 1 :]
            rows = rows.write(index, tf.stack([*row[: len(names) - 1], wait_s]))
            return index + 1, rows, last_gradients

        rows = tf.TensorArray(tf.float32, size=count, element_shape=[len(names)])
        gradients_before = [tf.zeros(state.weights[index].shape) for index in returned]
        _, rows, last_gradients = tf.while_loop(
            lambda index, *_: index < count,
            take_one,
            (tf.constant(0), rows, gradients_before),
            maximum_iterations=count,
        )
        columns = tf.unstack(rows.stack(), num=len(names), axis=1)
        return dict(zip(names, columns, strict=True)), last_gradients

    return train_steps


def _assign(
    strategy: tf.distribute.Strategy, variables: list[tf.Variable], values: list[tf.Tensor]
) -> None:
    for variable, value in zip(variables, values, strict=True):
        strategy.extended.update(variable, lambda v, new: v.assign(new), (value,), group=False)
