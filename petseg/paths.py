"""Paths as users write them, and as TensorFlow reads them."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from petseg.errors import UserError

# What a file browser, a new disk or a disk station leaves in an empty folder.
_NOTHING = (".DS_Store", "lost+found", ".snapshot", "@eaDir")
_WILDCARD = re.compile(r"[*?\[\]\\]")


def expand(path: str | os.PathLike[str]) -> str:
    """A path whose leading ~ or ~USER is that user's folder, which shells leave in --flag=~/x."""
    return os.path.expanduser(os.fspath(path))


def things_in(folder: str | os.PathLike[str]) -> list[str]:
    """The names in a folder, sorted, but for those that systems put into an empty one."""
    return sorted(path.name for path in epath.Path(folder).iterdir() if path.name not in _NOTHING)


def check_local(path: str | os.PathLike[str], flag: str) -> None:
    """Raises UserError if a path is an object store's: pathlib would write to a folder 'gs:'."""
    if "://" in os.fspath(path):
        raise UserError(f"{flag}={path} must be a local folder; copy what is written from there")


@contextlib.contextmanager
def literal(folder: str | os.PathLike[str]) -> Iterator[epath.Path]:
    """A name of a folder to read from that TensorFlow takes for no pattern.

    The reader of checkpoints looks for files by a pattern, so it finds none in 'run [lr 0.1]'.
    There the name is that of a link, which lasts as long as the context.
    """
    path = epath.Path(folder)
    if "://" in str(path) or not _WILDCARD.search(os.path.abspath(path)):
        yield path
        return
    with tempfile.TemporaryDirectory() as temporary:
        link = Path(temporary, "folder")
        try:
            link.symlink_to(os.path.abspath(path), target_is_directory=True)
        except OSError:  # a system that grants links to administrators alone
            shutil.copytree(path, link)
        yield epath.Path(link)
