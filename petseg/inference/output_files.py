"""Files that predict writes: marked as its own, so that it replaces and reads no others.

No file or folder keeps its name while it is unfinished.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from petseg.data import regular_file
from petseg.errors import UserError

MARK = b"made by petseg-predict"  # near the beginning or the end of every file
_SEARCHED_BYTES = 1024
_UNFINISHED = ".petseg-predict.tmp"
_FRAME = re.compile(r"\d{6,}\.(png|npz)")


def is_ours(path: Path) -> bool:
    """Whether predict made a file, or every file of a folder of frames."""
    if path.is_dir():
        return all(_FRAME.fullmatch(name.name) and is_ours(name) for name in path.iterdir())
    try:
        with regular_file.open_regular(path, None) as file:
            if MARK in file.read(_SEARCHED_BYTES):
                return True
            file.seek(-min(_SEARCHED_BYTES, os.fstat(file.fileno()).st_size), os.SEEK_END)
            return MARK in file.read(_SEARCHED_BYTES)
    except OSError:
        return False


def check_replaceable(path: Path) -> None:
    """Raises UserError if a file or folder is there that predict did not make."""
    if os.path.lexists(path) and not is_ours(path):
        what = "holds files that" if path.is_dir() else "is there already, and"
        raise UserError(
            f"--output_dir: {path} {what} petseg-predict did not make; name another folder"
        )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Gives the path of a temporary file, which gets its name once it is complete.

    Nothing is left of it if the context ends with an exception.

    Raises:
      UserError: The file cannot be written, or would replace one that predict did not make.
    """
    check_replaceable(path)
    temporary = _unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.exists():
            temporary.replace(path)
    except OSError as error:
        if error.errno is None:  # an encoder's
            raise
        raise UserError(f"--output_dir: cannot write {path}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def writing_frames(folder: Path) -> Iterator[Path]:
    """Gives the path of a temporary folder of frames, which gets its name in the end.

    Raises:
      UserError: It would replace a folder that predict did not make.
    """
    check_replaceable(folder)
    temporary = _unfinished(folder)
    shutil.rmtree(temporary, ignore_errors=True)  # of an interrupted command
    try:
        yield temporary
        if temporary.exists():
            shutil.rmtree(folder, ignore_errors=True)
            temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + _UNFINISHED)
