"""All that training changes, and what a step makes of it."""

import dataclasses
from collections.abc import Sequence

import keras
import tensorflow as tf

from petseg.training import optimizers
from petseg.training.optimizers import Optimizer

# Loss scaling as in Micikevicius et al. 2018: halved when a gradient overflows, doubled after
# so many steps without.
_FIRST_LOSS_SCALE = 2.0**15
_STEPS_TO_DOUBLE = 2000
LOSS_SCALE = ("good_steps", "loss_scale")  # the counts that only loss scaling needs


@dataclasses.dataclass(frozen=True)
class State:
    """Variables of one stage.

    Attributes:
      weights: The model's weights that the stage trains.
      rate_factors: Factor of the learning rate for each weight.
      slots: The optimizer's variables, by name, one for each weight.
      averages: Moving averages, one for each weight, or none.
      counts: 'updates', int64 []; with loss scaling also 'good_steps', int64 [], and
        'loss_scale', float32 [].
    """

    weights: list[keras.Variable]
    rate_factors: list[float]
    slots: dict[str, list[tf.Variable]]
    averages: list[tf.Variable]
    counts: dict[str, tf.Variable]

    @property
    def has_loss_scale(self) -> bool:
        """Whether gradients are scaled up, so that float16 can hold small ones."""
        return "loss_scale" in self.counts

    def variables(self) -> list[tf.Variable]:
        """Every variable, in the order of the functions below."""
        slots = [slot for name in self.slots for slot in self.slots[name]]
        weights = [weight.value for weight in self.weights]
        return [*weights, *slots, *self.averages, *self.counts.values()]


def make_state(
    weights: Sequence[keras.Variable],
    rate_factors: Sequence[float],
    averages: Sequence[tf.Variable],
    optimizer: Optimizer,
    has_loss_scale: bool,
) -> State:
    """A stage's state at its beginning; call it in the strategy's scope."""
    counts = {"updates": tf.Variable(0, dtype=tf.int64, trainable=False)}
    if has_loss_scale:
        counts["good_steps"] = tf.Variable(0, dtype=tf.int64, trainable=False)
        counts["loss_scale"] = tf.Variable(_FIRST_LOSS_SCALE, trainable=False)
    slots = {
        name: [tf.Variable(tf.zeros(weight.shape), trainable=False) for weight in weights]
        for name in optimizer.slots
    }
    return State(list(weights), list(rate_factors), slots, list(averages), counts)


def after_update(
    state: State,
    optimizer: Optimizer,
    gradients: Sequence[tf.Tensor],
    rate: tf.Tensor,
    average_decay: float,
) -> list[tf.Tensor]:
    """New values of state.variables() after a step with finite gradients.

    Args:
      state: Before the step.
      optimizer: How weights follow gradients.
      gradients: float32, one for each weight, of the global batch.
      rate: float32 [], the learning rate.
      average_decay: Decay of the moving averages.
    """
    updates = tf.identity(state.counts["updates"])
    rates = {factor: rate * factor for factor in state.rate_factors}  # one or two for all weights
    values, slots = optimizer.update(
        [tf.identity(weight.value) for weight in state.weights],
        {name: [tf.identity(v) for v in column] for name, column in state.slots.items()},
        gradients,
        [rates[factor] for factor in state.rate_factors],
        updates,
    )
    averages = [tf.identity(variable) for variable in state.averages]
    if averages:
        averages = optimizers.average(averages, values, average_decay, updates)
    counts = [updates + 1]
    if state.has_loss_scale:
        good_steps = state.counts["good_steps"] + 1
        is_doubled = good_steps >= _STEPS_TO_DOUBLE
        counts.append(tf.where(is_doubled, tf.zeros_like(good_steps), good_steps))
        counts.append(state.counts["loss_scale"] * tf.where(is_doubled, 2.0, 1.0))
    return [*values, *(slot for name in state.slots for slot in slots[name]), *averages, *counts]


def after_overflow(state: State) -> list[tf.Tensor]:
    """New values of state.variables() after a step that was not finite: no weight moves."""
    values = [tf.identity(variable) for variable in state.variables()]
    if state.has_loss_scale:
        values[-2:] = [tf.zeros_like(values[-2]), tf.maximum(values[-1] / 2, 1.0)]
    return values
