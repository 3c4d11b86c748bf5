"""The output folder: locked for one writer, and cleaned of what an interrupted one left."""

import contextlib
import errno
from collections.abc import Iterator

from etils import epath

from petseg import locks, paths
from petseg.data import manifest
from petseg.data.shard_files import WORK_DIR
from petseg.errors import UserError

_LOCK = "lock"
_LOCK_WAIT_S = 5  # the workers of a killed conversion end within a second


@contextlib.contextmanager
def claim(
    output_dir: str, setting: str = "--output_dir", *, is_patient: bool = False
) -> Iterator[None]:
    """Prepares a folder for one writer of shards, and cleans up after it.

    Within the context the folder has a work folder, WORK_DIR. It is removed in the end, but
    kept for resuming if the writer fails after it has begun to write.

    Args:
      output_dir: The folder.
      setting: The flag or config field that names it.
      is_patient: Wait until another process that writes to it ends; it may have finished what
        this one was about to write.

    Raises:
      UserError: The folder contains something else, cannot be written, or another process
        writes to it and `is_patient` is not set.
    """
    output = epath.Path(output_dir)
    work = output / WORK_DIR
    is_new = not output.exists()
    try:
        _check_is_ours(output, setting)
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{setting}: cannot write to {output}: {error.strerror}") from error
    with _lock(output_dir, setting, is_patient):
        _remove_temporary(work)
        try:
            yield
        except BaseException:
            _remove_temporary(work)
            if [path.name for path in work.iterdir()] == [_LOCK]:  # nothing to resume from
                _remove(work)
                if is_new and not work.exists():
                    output.rmdir()
            raise
        _remove(work)


def _remove(work: epath.Path) -> None:
    try:
        work.rmtree()
    except OSError as error:
        # Another command waits for the lock, and has just made its file again.
        if error.errno != errno.ENOTEMPTY:
            raise


def _remove_temporary(work: epath.Path) -> None:
    for path in work.iterdir():
        if ".tmp" in path.suffix and path.is_dir():
            path.rmtree()
        elif ".tmp" in path.suffix:
            path.unlink()


def _check_is_ours(output: epath.Path, setting: str) -> None:
    if not output.exists():
        return
    if not output.is_dir():
        raise UserError(f"{setting}: {output} is a file")
    if (output / WORK_DIR).is_dir() or (output / manifest.FILE_NAME).exists():
        return
    if things := paths.things_in(output):
        raise UserError(
            f"{setting}: {output} is not empty ({things[0]}, ...); "
            "name a new folder, or empty it first"
        )


@contextlib.contextmanager
def _lock(output_dir: str, setting: str, is_patient: bool) -> Iterator[None]:
    """Keeps a second writer out; the lock ends with the process, however that ends."""
    if "://" in output_dir:  # object stores have no locks
        yield
        return
    lock = str(epath.Path(output_dir) / WORK_DIR / _LOCK)
    is_busy = f"{setting}: another command writes to {output_dir}"
    with locks.only_writer(lock, _LOCK_WAIT_S, is_busy, is_patient=is_patient):
        yield
