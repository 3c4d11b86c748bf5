"""Memory that this process may still take: the machine's, within the limit of its container."""

from pathlib import Path

import psutil

from petseg.control_groups import groups_of_process

# Files of Linux's control groups, versions 2 and 1: limit, use, and the file cache within the
# use, which the system gives up when memory is short.
_FILES = {
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available_bytes() -> int:
    """Bytes that the process can take before the machine, or its container, has none left."""
    free = [psutil.virtual_memory().available]
    for folder, version in groups_of_process("memory"):
        found = _available_in(folder, version)
        if found is not None:
            free.append(found)
    return min(free)


def _available_in(group: Path, version: int) -> int | None:
    """Bytes below a group's limit; None if it has none, or there is no such group here."""
    limit, use, file_cache = _FILES[version]
    try:
        limit_bytes = int((group / limit).read_text())
        used_bytes = int((group / use).read_text())
        lines = (group / "memory.stat").read_text().splitlines()
        cached_bytes = sum(int(line.split()[1]) for line in lines if line.split()[0] == file_cache)
    except (OSError, ValueError, IndexError):  # the limit may be 'max'
        return None
    return max(limit_bytes - used_bytes + cached_bytes, 0)
