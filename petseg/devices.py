"""The devices that share a run's work, on this host and others."""

import collections
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


def describe_devices(devices: Devices) -> str:
    """What a run computes on, in one line."""
    gpus = tf.config.list_physical_devices("GPU")
    details = map(tf.config.experimental.get_device_details, gpus)
    names = [str(detail.get("device_name", "GPU")) for detail in details]
    hosts = f", on each of {devices.host_count} hosts" if devices.host_count > 1 else ""
    return f"devices: {name_gpus(names, devices.local_replicas)}{hosts}"


def name_gpus(names: Sequence[str], used: int) -> str:
    """The GPUs of this host, such as '8 x NVIDIA H100'.

    Args:
      names: Of all that TensorFlow finds.
      used: Number of those that compute.
    """
    if not names:
        return (
            "CPU only: TensorFlow finds no GPU (NVIDIA's need pip install 'tensorflow[and-cuda]')"
        )
    kinds = collections.Counter(names[:used])
    shown = ", ".join(f"{count} x {name}" for name, count in kinds.items())
    return shown if used >= len(names) else f"{shown} (of {len(names)} GPUs)"
