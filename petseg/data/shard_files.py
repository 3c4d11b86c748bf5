"""Shards as files: their names, their sizes, and how one is written so that none is half.

A shard is written under a temporary name in a work folder, flushed, and renamed; its account
is written just before, so that a shard that has its name is one that a restart can trust.
"""

import contextlib
import hashlib
import io
import os
from collections.abc import Collection, Iterator, Sequence
from typing import BinaryIO, TypeVar

from etils import epath

from petseg.data import manifest, tfrecord
from petseg.data.manifest import Shard
from petseg.errors import FaultFound

T = TypeVar("T")

# Within the output folder while it is not finished: each shard's account, for a restart.
WORK_DIR = "UNFINISHED"


class Frames:
    """Frames the records of a file, and counts what it comes to.

    Attributes:
      records: so far.
      bytes: so far.
    """

    def __init__(self, *, is_hashed: bool = True):
        """A hash is worth its time only where these are all of a file's records."""
        self.records = self.bytes = 0
        self._digest = hashlib.sha256() if is_hashed else None

    def add(self, serialized: bytes) -> bytes:
        """Counts a record and gives the bytes to append to the file."""
        framed = tfrecord.frame(serialized)
        if self._digest:
            self._digest.update(framed)
        self.bytes += len(framed)
        self.records += 1
        return framed

    def sha256(self) -> str:
        """Of the file; '' if it was not to be known."""
        return self._digest.hexdigest() if self._digest else ""


def shard_name(name: str, split: str, index: int, count: int) -> str:
    """The file name of one shard, as in 'pets-train.tfrecord-00000-of-00008'."""
    return f"{name}-{split}.tfrecord-{index:05d}-of-{count:05d}"


def plan_shards(
    items: Sequence[T], sizes_bytes: Sequence[int], shard_bytes: float
) -> list[list[T]]:
    """Cuts a sequence into consecutive runs of nearly equal size, none empty.

    Args:
      items: in the order in which they will be stored.
      sizes_bytes: each item's size.
      shard_bytes: the size to come near to.

    Returns:
      The runs, in order; together they are `items`.
    """
    total = sum(sizes_bytes)
    count = min(len(items), max(1, round(total / shard_bytes)))
    shards: list[list[T]] = [[] for _ in range(count)]
    start, used = 0, 0
    for place, (item, size) in enumerate(zip(items, sizes_bytes, strict=True)):
        # By the item's middle; but each later shard must still get one item.
        by_size = int((start + size / 2) * count / max(total, 1))
        used = min(max(by_size, used), used + bool(shards[used]), count - 1)
        used = max(used, count - (len(items) - place))
        shards[used].append(item)
        start += size
    return shards


def temporary(output_dir: str, name: str) -> epath.Path:
    """A file of this process's own: on a cluster a task may run twice at a time."""
    suffix = f"tmp-{os.getpid()}-{os.urandom(4).hex()}"
    return epath.Path(output_dir) / WORK_DIR / f"{name}.{suffix}"


def flush(file: BinaryIO) -> None:
    """Has the disk hold what was written; object stores do so when a file is closed."""
    file.flush()
    # Nothing else: what a full or failing disk says here must be heard.
    with contextlib.suppress(AttributeError, io.UnsupportedOperation):
        os.fsync(file.fileno())


@contextlib.contextmanager
def told_as_fault(setting: str, output_dir: str, name: str) -> Iterator[None]:
    """What a disk refuses, as a line that names the user's setting and the file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise FaultFound(f"{setting}: cannot write {output_dir}/{name}: {reason}") from error


@contextlib.contextmanager
def removed_on_failure(path: epath.Path) -> Iterator[None]:
    """Takes a file away if what follows fails."""
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def finish(path: epath.Path, account: Shard, output_dir: str) -> None:
    """Gives a temporary file its name; one without records goes, with its account left."""
    output = epath.Path(output_dir)
    (output / WORK_DIR / f"{account.name}.json").write_text(manifest.shard_to_json(account))
    if account.records:
        path.replace(output / account.name)
    else:
        path.unlink()


def read_account(output_dir: str, name: str) -> Shard | None:
    """A shard's account in the work folder, or None if there is none that can be read."""
    try:
        return manifest.shard_from_json(
            (epath.Path(output_dir) / WORK_DIR / f"{name}.json").read_text()
        )
    except (OSError, ValueError):
        return None


def is_written(account: Shard, output_dir: str) -> bool:
    """Whether a shard's file is there and is the one of its account."""
    path = epath.Path(output_dir) / account.name
    if not account.records:
        return not path.exists()
    return (
        path.exists()
        and path.stat().length == account.bytes
        and manifest.sha256_of_file(path) == account.sha256
    )


def remove_others(output_dir: str, names: Collection[str]) -> None:
    """Shards of an earlier, interrupted writing of something else go.

    Args:
      output_dir: the folder, with accounts in WORK_DIR.
      names: of the shards that stay.
    """
    output = epath.Path(output_dir)
    for account in (output / WORK_DIR).iterdir():
        name = account.name.removesuffix(".json")
        if account.name.endswith(".json") and name not in names:
            (output / name).unlink(missing_ok=True)
