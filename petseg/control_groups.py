"""Linux's control groups that hold this process: their limits are those of its container."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_GROUPS_OF_PROCESS = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")


def groups_of_process(controller: str) -> Iterator[tuple[Path, int]]:
    """Yields the folders of the groups, each with its version, 1 or 2; none elsewhere than Linux.

    The limit of an outer group counts as well. In a container the inner groups may not be
    visible, and its own is the root: a folder may not exist.

    Args:
      controller: What is limited: 'cpu' or 'memory'.
    """
    try:
        lines = _GROUPS_OF_PROCESS.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top, version = (_ROOT / controller, 1) if controllers else (_ROOT, 2)
        inner = PurePosixPath(path.lstrip("/"))
        for group in (inner, *inner.parents):
            yield top / group, version
