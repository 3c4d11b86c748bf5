"""Optimizers as pure functions: values, state and gradients in, values and state out.

Keras's `Optimizer.apply` sums the gradients over replicas itself, which does not allow clipping
the sum or to skip an update that is not finite; see docs/decisions/002-own-optimizers.md. Tests
compare these updates with Keras's.

Sources: Kingma and Ba 2015 (Adam), Loshchilov and Hutter 2019 (AdamW), Polyak 1964
(momentum).
"""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7
_SLOTS = {"adam": ("m", "v"), "adamw": ("m", "v"), "sgd": ("velocity",)}

Slots = dict[str, list[tf.Tensor]]


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An update rule.

    Attributes:
      name: 'adam', 'adamw' or 'sgd'.
      momentum: Momentum of sgd.
      weight_decay: Decoupled weight decay of kernels: each step subtracts this share of the
        kernel times the learning rate. 0 for adam.
    """

    name: str
    momentum: float = 0.9
    weight_decay: float = 0.0

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the slots: for each weight one float32 variable of its shape, initially 0."""
        return _SLOTS[self.name]

    def update(
        self,
        values: Sequence[tf.Tensor],
        slots: Slots,
        gradients: Sequence[tf.Tensor],
        rates: Sequence[tf.Tensor],
        updates: tf.Tensor,
    ) -> tuple[list[tf.Tensor], Slots]:
        """Computes one update.

        Args:
          values: float32 weights.
          slots: For each of `self.slots`, one tensor per weight.
          gradients: float32, one per weight.
          rates: float32 [] learning rates, one per weight.
          updates: int64 [], the number of earlier updates.

        Returns:
          The new weights and slots.
        """
        slot_columns = [slots[name] for name in self.slots]
        scaled = self._scaled(rates, updates)
        columns = zip(values, gradients, *slot_columns, rates, scaled, strict=True)
        rows = [self._update_one(*column) for column in columns]
        new_values, *new_slots = (list(column) for column in zip(*rows, strict=True))
        return new_values, dict(zip(self.slots, new_slots, strict=True))

    def _scaled(self, rates: Sequence[tf.Tensor], updates: tf.Tensor) -> list[tf.Tensor]:
        """Learning rates that make up for moments which began at 0; equal ones are one tensor."""
        if self.name == "sgd":
            return list(rates)
        count = tf.cast(updates + 1, tf.float32)
        root, rest = tf.sqrt(1 - _BETA_2**count), 1 - _BETA_1**count
        scaled = {key: rate * root / rest for key, rate in {id(r): r for r in rates}.items()}
        return [scaled[id(rate)] for rate in rates]

    def _update_one(self, value: tf.Tensor, gradient: tf.Tensor, *rest: tf.Tensor) -> tuple:
        *slots, rate, scaled_rate = rest
        # Biases and scales of normalisation layers have one axis and do not decay.
        if self.weight_decay and value.shape.rank > 1:
            value = value - value * self.weight_decay * rate
        if self.name == "sgd":
            velocity = self.momentum * slots[0] - rate * gradient
            return value + velocity, velocity
        m = slots[0] + (gradient - slots[0]) * (1 - _BETA_1)
        v = slots[1] + (tf.square(gradient) - slots[1]) * (1 - _BETA_2)
        return value - scaled_rate * m / (tf.sqrt(v) + _EPSILON), m, v


def clip(gradients: Sequence[tf.Tensor], norm: float) -> list[tf.Tensor]:
    """Clips gradients to a global norm; 0 does not clip."""
    if not norm:
        return list(gradients)
    return tf.clip_by_global_norm(gradients, norm)[0]


def average(
    averages: Sequence[tf.Tensor], values: Sequence[tf.Tensor], decay: float, updates: tf.Tensor
) -> list[tf.Tensor]:
    """Computes exponential moving averages after one more update; early ones follow faster.

    Args:
      averages: float32, the averages so far.
      values: float32, the new weights.
      decay: Largest decay; after n updates it is (1 + n) / (10 + n) if that is less.
      updates: int64 [], the number of earlier updates.
    """
    count = tf.cast(updates, tf.float32)
    decay = tf.minimum(decay, (1 + count) / (10 + count))
    return [old + (new - old) * (1 - decay) for old, new in zip(averages, values, strict=True)]
