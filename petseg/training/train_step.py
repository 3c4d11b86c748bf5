"""Training steps, the same for every strategy, many in one call of a compiled graph."""

from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

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

TrainSteps = Callable[..., tuple[dict[str, tf.Tensor], list[tf.Tensor]]]

_SUM = tf.distribute.ReduceOp.SUM


def make_train_steps(
    state: State,
    gradients: Gradients,
    optimizer: Optimizer,
    schedule: Schedule,
    strategy: tf.distribute.Strategy,
    *,
    terms: Sequence[str],
    clip_norm: float,
    average_decay: float,
    seed: int,
    is_timed: bool = True,
    told_gradients: Sequence[int] = (),
) -> TrainSteps:
    """Compiles training steps; the result does not depend on the replica count.

    A step whose loss or gradient is not finite changes no weight.

    Args:
      state: in the strategy's scope.
      gradients: see gradients.make_gradients.
      optimizer: how weights follow gradients.
      schedule: of the learning rate, from the stage's first step on.
      strategy: whose replicas share a batch.
      terms: names of the loss's, as `gradients` gives them.
      clip_norm: longest gradient over all weights; 0 does not clip.
      average_decay: of state.averages.
      seed: of the dropout.
      is_timed: measure the waiting; TensorFlow's deterministic mode has no clock.
      told_gradients: places in state.weights of those whose gradients are given back.

    Returns:
      A function: iterator over (distributed) batches of make_for_train; int64 [] first
      step; int64 [] step at which the stage began; int32 [] number of steps; float32 []
      factor of the rate -> for each step a row of the loss ('loss/total') and its parts,
      of the gradient's length ('gradient_norm'), of 1 where all was finite ('finite') and
      of the seconds that it stood still for its batch ('wait_s'): float32 [steps] each;
      and the gradients, not clipped, of the last step.
    """
    names = [*(f"loss/{term}" for term in terms), "loss/total", "gradient_norm", "finite"]
    names.append("wait_s")

    def replica_step(
        batch: dict[str, tf.Tensor], step: tf.Tensor, rate: tf.Tensor
    ) -> list[tf.Tensor]:
        batch = augment.apply(batch)
        context = tf.distribute.get_replica_context()
        scale = tf.identity(state.counts["loss_scale"]) if state.has_loss_scale else tf.ones([])
        own = gradients(
            [tf.identity(weight.value) for weight in state.weights],
            features.known_pools(batch),
            batch["mask"],
            context.replica_id_in_sync_group,
            fold_seed(seed, Stream.DROPOUT, step),
            context.all_reduce(_SUM, count_valid_pixels(batch["mask"])),
            scale,
        )
        reduced = context.all_reduce(_SUM, own)
        found, summed = reduced[: len(terms)], reduced[len(terms) :]
        whole_loss = tf.add_n(found)
        unscaled = [gradient / scale for gradient in summed]
        norm = tf.linalg.global_norm(unscaled)
        # A norm is finite only if every gradient is.
        is_finite = tf.math.is_finite(norm) & tf.math.is_finite(whole_loss)
        clipped = optimizers.clip(unscaled, clip_norm)
        new = tf.cond(
            is_finite,
            lambda: state_lib.after_update(state, optimizer, clipped, rate, average_decay),
            lambda: state_lib.after_overflow(state),
        )
        context.merge_call(_assign, (state.variables(), new))
        told = [unscaled[place] for place in told_gradients]
        return [*found, whole_loss, norm, tf.cast(is_finite, tf.float32), *told]

    def clock_s() -> tf.Tensor:
        return tf.timestamp() if is_timed else tf.zeros([], tf.float64)

    @tf.function(reduce_retracing=True)
    def train_steps(
        batches: Iterator,
        first_step: tf.Tensor,
        stage_began: tf.Tensor,
        count: tf.Tensor,
        rate_factor: tf.Tensor,
    ) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
        told = [tf.zeros(state.weights[place].shape) for place in told_gradients]
        rows = tf.TensorArray(tf.float32, size=count, element_shape=[len(names)])
        for index in tf.range(count):
            step = first_step + tf.cast(index, tf.int64)
            rate = rate_factor * schedule(step - stage_began)
            with tf.control_dependencies([rows.flow]):  # the step before has ended
                before_s = clock_s()
            with tf.control_dependencies([before_s]):
                batch = next(batches)
            with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
                wait_s = tf.cast(clock_s() - before_s, tf.float32)
            per_replica = strategy.run(replica_step, args=(batch, step, rate))
            # Sums over all replicas already: the same on each.
            row = [strategy.experimental_local_results(value)[0] for value in per_replica]
            told = row[len(names) - 1 :]
            rows = rows.write(index, tf.stack([*row[: len(names) - 1], wait_s]))
        columns = tf.unstack(rows.stack(), num=len(names), axis=1)
        return dict(zip(names, columns, strict=True)), told

    return train_steps


def _assign(
    strategy: tf.distribute.Strategy, variables: list[tf.Variable], values: list[tf.Tensor]
) -> None:
    for variable, value in zip(variables, values, strict=True):
        strategy.extended.update(variable, lambda v, new: v.assign(new), (value,), group=False)
