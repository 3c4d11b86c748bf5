"""The processor cores that this process may use, of those that the machine has."""

import math
import os
from collections.abc import Iterator

from petseg.control_groups import groups_of_process


def usable_cores() -> int:
    """Cores that the process may run on, within the limit of its container.

    Where the system does not say, it is all cores of the machine.
    """
    if hasattr(os, "sched_getaffinity"):  # absent on macOS and Windows
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return min([cores, *_limits()])


def _limits() -> Iterator[int]:
    """Yields the limits of the process's control groups, in cores, rounded up."""
    for group, version in groups_of_process("cpu"):
        try:
            if version == 1:  # a quota of -1 is none
                files = (group / f"cpu.cfs_{name}_us" for name in ("quota", "period"))
                quota, period = (int(file.read_text()) for file in files)
            else:  # a quota of 'max' is none
                quota, period = map(int, (group / "cpu.max").read_text().split())
        except (OSError, ValueError):
            continue
        if quota > 0 and period > 0:
            yield max(math.ceil(quota / period), 1)
