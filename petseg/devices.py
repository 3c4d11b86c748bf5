"""The devices that share a run's work, on this host and others."""

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf

# Adds numbers over hosts: each host gives its numbers, all get the same sums. Every host must
# call it at the same point of its work.
Agree = Callable[[Sequence[float]], list[float]]


@dataclasses.dataclass(frozen=True)
class Devices:
    """Replicas of a strategy, and this host's part of them.

    Attributes:
      strategy: Over all replicas of all hosts.
      agree: Adds numbers over hosts.
      host_index: This host's, from 0; the first one writes checkpoints and events.
      host_count: Number of hosts.
    """

    strategy: tf.distribute.Strategy
    agree: Agree = list
    host_index: int = 0
    host_count: int = 1

    @property
    def is_first_host(self) -> bool:
        """Whether this host writes checkpoints and events."""
        return self.host_index == 0

    @property
    def replicas(self) -> int:
        """Number of replicas of all hosts."""
        return self.strategy.num_replicas_in_sync

    @property
    def local_replicas(self) -> int:
        """Number of replicas of this host."""
        return self.replicas // self.host_count
