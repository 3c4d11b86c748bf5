"""Locks between processes; a lock ends with the process that holds it, however that ends."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

import filelock

from petseg.errors import UserError

# What a file system answers that has no locks, as some network disks.
_HAS_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
_POLL_S, _FOREVER = 0.1, -1


@contextlib.contextmanager
def only_writer(
    path: str, wait_s: float, is_busy: str, *, is_patient: bool = False
) -> Iterator[None]:
    """Keeps other writers out while the context lasts.

    Where the file system has no locks, one line on standard error says so, and the context is
    entered without one.

    Args:
      path: The lock's file, in the folder that is written to; it is left there.
      wait_s: Seconds to wait for another writer, such as one that is just ending.
      is_busy: What is wrong if there is another.
      is_patient: Then wait until the other ends, and say so in one line on standard error.

    Raises:
      UserError: There is another writer.
      OSError: The lock's file cannot be written.
    """
    lock = filelock.FileLock(path, fallback_to_soft=False)
    try:
        try:
            _acquire(lock, wait_s)
        except filelock.Timeout as error:
            if not is_patient:
                raise UserError(is_busy) from error
            print(f"{is_busy}; waiting until it ends", file=sys.stderr, flush=True)
            _acquire(lock, _FOREVER)
    except OSError as error:
        if error.errno not in _HAS_NO_LOCKS:
            raise
        print(
            f"warning: the disk of {os.path.dirname(path)} gives no locks "
            f"({os.strerror(error.errno)}): let no second command write there at the same time",
            file=sys.stderr,
        )
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: filelock.BaseFileLock, wait_s: float) -> None:
    while True:
        try:
            lock.acquire(timeout=wait_s, poll_interval=_POLL_S)
            return
        except FileNotFoundError:  # the other has ended, and removed the folder of the lock
            os.makedirs(os.path.dirname(lock.lock_file), exist_ok=True)
