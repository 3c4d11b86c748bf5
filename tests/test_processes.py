"""Worker processes on machines that lack what they need."""

import errno
import multiprocessing.synchronize
import os
from types import SimpleNamespace

import pytest

from petseg import processes
from petseg.errors import FaultFound


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EACCES, errno.ENOENT, errno.EROFS])
def test_without_shared_memory_one_process_is_advised(monkeypatch, code):
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    system = SimpleNamespace(SemLock=refuse)
    monkeypatch.setattr(multiprocessing.synchronize, "_multiprocessing", system)
    arguments = {"what": "x", "sizes": [1, 1], "show_progress": False}
    with pytest.raises(FaultFound, match=f"/dev/shm: {os.strerror(code)}.*use --workers=1"):
        processes.map_in_processes(_double, [3, 4], workers=2, **arguments)
    assert processes.map_in_processes(_double, [3, 4], workers=1, **arguments) == [6, 8]


def _double(number: int, advance: processes.Advance) -> int:
    advance()
    return 2 * number
