"""Shards as files: their names, their sizes, and how they are written atomically.

A shard is written under a temporary name in a work folder, flushed, and renamed. Its metadata
are written just before, so that a resumed writer can trust a shard that has its name.
"""

import contextlib
import hashlib
import io
import os
from collections.abc import Collection, Iterator, Sequence
from typing import BinaryIO, TypeVar

from etils import epath

from petseg.data import manifest, shard_hashes, tfrecord
from petseg.data.manifest import Shard
from petseg.errors import FaultFound

T = TypeVar("T")
_WRITEBACK_BYTES = 8 << 20  # 8 MiB

# In an output folder that is not finished: temporary files, and each shard's metadata.
WORK_DIR = "UNFINISHED"


class Frames:
    """Frames the records of one file, and sums up the file's metadata.

    Attributes:
      records: Number of records so far.
      bytes: Size of the file so far, in bytes.
    """

    def __init__(self, *, is_hashed: bool = True):
        """Starts a file; `is_hashed` costs time, and needs all records of the file."""
        self.records = self.bytes = 0
        self._digest = hashlib.sha256() if is_hashed else None

    def add(self, serialized: bytes) -> bytes:
        """Counts a record and returns the bytes to append to the file."""
        framed = tfrecord.frame(serialized)
        if self._digest:
            self._digest.update(framed)
        self.bytes += len(framed)
        self.records += 1
        return framed

    def sha256(self) -> str:
        """Returns the SHA-256 of the file so far; empty if it is not hashed."""
        return self._digest.hexdigest() if self._digest else ""


def plan_shards(
    items: Sequence[T], sizes_bytes: Sequence[int], shard_bytes: float
) -> list[list[T]]:
    """Cuts a sequence into consecutive runs of nearly equal size, none empty.

    Args:
      items: The items in the order in which they will be stored.
      sizes_bytes: The size of each item.
      shard_bytes: The approximate size of a run.

    Returns:
      The runs, in order; together they are `items`.
    """
    total = sum(sizes_bytes)
    count = min(len(items), max(1, round(total / shard_bytes)))
    shards: list[list[T]] = [[] for _ in range(count)]
    start, used = 0, 0
    for index, (item, size) in enumerate(zip(items, sizes_bytes, strict=True)):
        # By the middle of the item, but each later shard must still get one item.
        by_size = int((start + size / 2) * count / max(total, 1))
        used = min(max(by_size, used), used + bool(shards[used]), count - 1)
        used = max(used, count - (len(items) - index))
        shards[used].append(item)
        start += size
    return shards


def temporary(output_dir: str, name: str) -> epath.Path:
    """Returns a path that no other process uses; a cluster may run a task twice at a time."""
    suffix = f"tmp-{os.getpid()}-{os.urandom(4).hex()}"
    return epath.Path(output_dir) / WORK_DIR / f"{name}.{suffix}"


def flush(file: BinaryIO) -> None:
    """Syncs a file to disk; object stores do so when a file is closed."""
    file.flush()
    # Other errors, of a full or failing disk, must not be suppressed.
    with contextlib.suppress(AttributeError, io.UnsupportedOperation):
        os.fsync(file.fileno())


class Writeback:
    """Lets the system write a file to disk while the rest is computed, so that `flush` is short."""

    def __init__(self, file: BinaryIO):
        """Starts at the file's position; does nothing where the system or a store offers none."""
        self._file, self._started = file, 0
        self._is_offered = hasattr(os, "posix_fadvise") and isinstance(file, io.BufferedWriter)

    def advance(self) -> None:
        """Starts to write what was appended since the last start, if that is much."""
        if not self._is_offered:
            return
        position = self._file.tell()
        if position - self._started < _WRITEBACK_BYTES:
            return
        self._file.flush()
        # Linux starts to write the range, and would forget what it has written: nothing yet.
        os.posix_fadvise(
            self._file.fileno(), self._started, position - self._started, os.POSIX_FADV_DONTNEED
        )
        self._started = position


@contextlib.contextmanager
def reported_as_fault(setting: str, output_dir: str, name: str) -> Iterator[None]:
    """Turns an OSError into a FaultFound that names the user's setting and the file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise FaultFound(f"{setting}: cannot write {output_dir}/{name}: {reason}") from error


@contextlib.contextmanager
def removed_on_failure(path: epath.Path) -> Iterator[None]:
    """Removes a file if the context fails."""
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def finish(path: epath.Path, shard: Shard, output_dir: str) -> None:
    """Writes a shard's metadata and renames its temporary file; removes one without records."""
    output = epath.Path(output_dir)
    (output / WORK_DIR / f"{shard.name}.json").write_text(manifest.shard_to_json(shard))
    if shard.records:
        path.replace(output / shard.name)
    else:
        path.unlink()


def read_metadata(output_dir: str, name: str) -> Shard | None:
    """Returns a shard's metadata in the work folder, or None if they cannot be read."""
    try:
        return manifest.shard_from_json(
            (epath.Path(output_dir) / WORK_DIR / f"{name}.json").read_text()
        )
    except (OSError, ValueError):
        return None


def begun(output_dir: str) -> set[str]:
    """Returns the names of the shards that have metadata in the work folder."""
    names = (path.name for path in (epath.Path(output_dir) / WORK_DIR).iterdir())
    return {name.removesuffix(".json") for name in names if name.endswith(".json")}


def is_written(shard: Shard, output_dir: str) -> bool:
    """Whether a shard's file exists and agrees with its metadata."""
    path = epath.Path(output_dir) / shard.name
    if not shard.records:
        return not path.exists()
    return (
        path.exists()
        and path.stat().length == shard.bytes
        and shard_hashes.sha256_of_file(path) == shard.sha256
    )


def remove_others(output_dir: str, names: Collection[str]) -> None:
    """Removes the shards of an earlier, interrupted conversion of other inputs.

    Args:
      output_dir: The folder, with metadata in WORK_DIR.
      names: Names of the shards that stay.
    """
    output = epath.Path(output_dir)
    for name in begun(output_dir) - set(names):
        (output / name).unlink(missing_ok=True)
