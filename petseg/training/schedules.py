"""Learning rates as pure functions of the step, so that a resumed run continues its schedule."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import tensorflow as tf
from keras.optimizers import schedules as keras_schedules

Schedule = Callable[[tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class ScheduleOptions:
    """The shape of a schedule.

    Attributes:
      name: 'constant', 'cosine' or 'polynomial' (both to 0 at the end), 'piecewise' (drops), or
        'plateau' (constant within make_schedule; see plateau_factor).
      warmup_steps: Length of the linear warm-up; at most half of the stage is used for it.
      power: Exponent of the polynomial (0.9 in Liu et al. 2015, ParseNet).
      drop_at: Shares of the stage at which a piecewise rate drops, ascending.
      drop_factor: Factor of each drop.
    """

    name: str = "cosine"
    warmup_steps: int = 0
    power: float = 0.9
    drop_at: Sequence[float] = ()
    drop_factor: float = 0.1


def make_schedule(options: ScheduleOptions, peak: float, steps: int) -> Schedule:
    """Makes the schedule of one stage: a linear warm-up, then a decay of Keras's.

    Step n of the w warm-up steps has (n + 1) / (w + 1) of the peak, so the first step trains
    and the step after the warm-up has the whole peak.

    Args:
      options: The shape of the schedule.
      peak: The learning rate after the warm-up.
      steps: Steps in the stage.

    Returns:
      A function: integer [] step of the stage, from 0 -> float32 [] learning rate.
    """
    warmup = min(options.warmup_steps, steps // 2)
    decay = _make_decay(options, peak, steps, warmup)

    def schedule(step: tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        return tf.where(step < warmup, peak * ((step + 1) / (warmup + 1)), decay(step))

    return schedule


def _make_decay(options: ScheduleOptions, peak: float, steps: int, warmup: int) -> Schedule:
    # Keras's own warm-up belongs to CosineDecay alone, so the warm-up stays outside.
    decay_steps = max(steps - warmup, 1)
    if options.name == "cosine":
        cosine = keras_schedules.CosineDecay(peak, decay_steps)
        return lambda step: cosine(step - warmup)
    if options.name == "polynomial":
        polynomial = keras_schedules.PolynomialDecay(peak, decay_steps, 0.0, options.power)
        return lambda step: polynomial(step - warmup)
    if options.name == "piecewise" and options.drop_at:
        rates = [peak * options.drop_factor**drops for drops in range(len(options.drop_at) + 1)]
        last_steps = [_first_step_from(share, steps) - 1 for share in options.drop_at]
        return keras_schedules.PiecewiseConstantDecay(last_steps, rates)
    return lambda step: tf.constant(peak, tf.float32)


def _first_step_from(share: float, steps: int) -> int:
    """The first step of a stage that has at least this share of the steps before it."""
    # 0.55 * 100 is 55.000000000000007 in float64: round before ceil.
    return math.ceil(round(share * steps, 6))


def plateau_factor(metrics: Sequence[float], patience: int, drop_factor: float) -> float:
    """Computes the factor of a plateau schedule from the metrics of a stage so far.

    Args:
      metrics: The metric of every evaluation of the stage, in order; more is better, and NaN
        is never a best value.
      patience: Evaluations without a new best value before a drop; the count restarts after it.
      drop_factor: Factor of each drop.

    Returns:
      The factor to multiply the learning rate with.
    """
    factor, best, waited = 1.0, -math.inf, 0
    for value in metrics:
        if value > best:
            best, waited = value, 0
            continue
        waited += 1
        if waited == patience:
            factor, waited = factor * drop_factor, 0
    return factor
