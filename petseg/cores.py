"""The processor cores that this process may use, of those that the machine has."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_GROUPS_OF_PROCESS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Cores that the process may run on, within the limit of its container.

    Where the system does not say, it is all cores of the machine.
    """
    if hasattr(os, "sched_getaffinity"):  # absent on macOS and Windows
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return min([cores, *_limits(_GROUPS_OF_PROCESS, _GROUPS)])


def _limits(listing: Path, root: Path) -> Iterator[int]:
    """Yields the limits of Linux's control groups that hold the process, in cores, rounded up.

    That of an outer group counts as well. In a container the inner groups may not be visible,
    and its own is the root.
    """
    try:
        lines = listing.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        inner = PurePosixPath(path.lstrip("/"))
        for group in (inner, *inner.parents):
            try:
                if controllers:  # version 1; a quota of -1 is none
                    files = [f"cpu.cfs_{name}_us" for name in ("quota", "period")]
                    quota, period = (int((root / "cpu" / group / f).read_text()) for f in files)
                else:  # version 2; a quota of 'max' is none
                    quota, period = map(int, (root / group / "cpu.max").read_text().split())
            except (OSError, ValueError):
                continue
            if quota > 0 and period > 0:
                yield max(math.ceil(quota / period), 1)
