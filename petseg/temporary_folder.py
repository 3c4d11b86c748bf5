"""The temporary folder of one command, in which libraries leave files behind.

TensorFlow writes the code that AutoGraph makes of a function (petseg's own needs none) to a file,
which it removes only if the process ends by itself; TFDS never removes its folders. Here all of
that lies in a folder of the process's own, which is removed when the process ends, or else by the
next command.
"""

import atexit
import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

import filelock

_PREFIX = "petseg-tmp-"
_IN_MEMORY = Path("/dev/shm")
_LOCK = ".petseg-temporary-folder"  # a folder without it is somebody else's


def use_memory_if_needed() -> None:
    """Lets temporary files lie in memory if no disk takes any, as in a read-only container.

    Ends the process with one line if that cannot be. TensorFlow asks for the folder when it is
    imported.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        if not os.access(_IN_MEMORY, os.W_OK):
            sys.exit(f"error: {error.strerror}; set TMPDIR to a folder that can be written to")
        tempfile.tempdir = str(_IN_MEMORY)


def use_own() -> None:
    """Makes a folder that takes all temporary files of this process and of those it starts.

    Those of processes that were killed are removed. If there is no space for a folder, or no
    permission, temporary files stay where they were.
    """
    with contextlib.suppress(OSError):
        system = Path(tempfile.gettempdir())
        _remove_abandoned(system)
        # Its final name appears once it is locked: others would take it for abandoned.
        new = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=system))
        lock = _lock(new)
        with contextlib.suppress(OSError):  # no locks on this disk: nobody removes it but us
            lock.acquire(timeout=0)
        own = new.rename(system / new.name.removeprefix("."))
        atexit.register(_remove_own, own, lock, os.getpid())
        tempfile.tempdir = os.environ["TMPDIR"] = str(own)


def _lock(folder: Path) -> filelock.BaseFileLock:
    return filelock.FileLock(folder / _LOCK, fallback_to_soft=False)


def _remove_abandoned(system: Path) -> None:
    for folder in system.glob(f"{_PREFIX}*"):
        if not (folder / _LOCK).exists():
            continue
        # Still in use, another user's, or removed by another command at this moment.
        with contextlib.suppress(OSError), _lock(folder).acquire(timeout=0):
            shutil.rmtree(folder)


def _remove_own(own: Path, lock: filelock.BaseFileLock, process: int) -> None:
    if os.getpid() == process:  # not in a fork
        shutil.rmtree(own, ignore_errors=True)
        lock.release()
