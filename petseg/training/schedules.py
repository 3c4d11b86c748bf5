"""Learning rates as pure functions of the step, so that a resumed run goes on with its own."""

import math
from collections.abc import Callable, Sequence

import tensorflow as tf

Schedule = Callable[[tf.Tensor], tf.Tensor]


def make_schedule(
    name: str,
    *,
    peak: float,
    steps: int,
    warmup_steps: int,
    power: float,
    drop_at: Sequence[float],
    drop_factor: float,
) -> Schedule:
    """A linear warm-up, over at most half of all steps, then what `name` says.

    Args:
      name: 'constant', 'cosine' or 'polynomial' (to 0 at the end), 'piecewise' (drops), or
        'plateau' (constant here; see plateau_factor).
      peak: the rate after the warm-up.
      steps: of the whole stage.
      warmup_steps: step n of them has (n + 1) / (warmup_steps + 1) of the peak.
      power: of the polynomial (0.9 in Liu et al. 2015, ParseNet).
      drop_at: shares of `steps` at which a piecewise rate drops.
      drop_factor: what each drop multiplies the rate with.

    Returns:
      A function: integer [] step, from 0 -> float32 [] rate.
    """
    warmup = min(warmup_steps, steps // 2)

    def decay(step: tf.Tensor) -> tf.Tensor:
        done = tf.clip_by_value((step - warmup) / max(steps - warmup, 1), 0.0, 1.0)
        if name == "cosine":
            return 0.5 * (1 + tf.cos(math.pi * done))
        if name == "polynomial":
            return (1 - done) ** power
        if name == "piecewise":
            drops = tf.reduce_sum(tf.cast(step / steps >= tf.constant(drop_at), tf.float32))
            return tf.constant(drop_factor) ** drops
        return tf.ones([])

    def schedule(step: tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        return peak * tf.where(step < warmup, (step + 1) / (warmup + 1), decay(step))

    return schedule


def plateau_factor(metrics: Sequence[float], patience: int, drop_factor: float) -> float:
    """What a plateau schedule multiplies the rate with, given a stage's scores so far.

    Args:
      metrics: of every evaluation of the stage, in order; more is better, NaN is no best.
      patience: how many evaluations without a new best make it drop; counting then begins
        anew.
      drop_factor: of each drop.
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
