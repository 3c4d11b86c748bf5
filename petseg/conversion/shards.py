"""Which example goes into which shard, and how a shard is written."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import TypeVar

import tensorflow as tf
from etils import epath

from petseg.errors import UserError
from petseg.manifest import Shard, sha256_of_file

T = TypeVar("T")

# TFDS's words for the names that `shard_name` makes.
TFDS_FILENAME_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


def shard_name(name: str, split: str, index: int, count: int) -> str:
    """The file name of one shard, as in 'pets-train.tfrecord-00000-of-00008'."""
    return f"{name}-{split}.tfrecord-{index:05d}-of-{count:05d}"


def plan_shards(items: Sequence[T], sizes_bytes: Sequence[int], shard_bytes: int) -> list[list[T]]:
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


@dataclasses.dataclass
class ShardWriter:
    """Collects the records of one open shard.

    Attributes:
      records: how many were written so far.
    """

    _writer: tf.io.TFRecordWriter
    records: int = 0

    def write(self, serialized: bytes) -> None:
        """Appends one record."""
        self._writer.write(serialized)
        self.records += 1


@contextlib.contextmanager
def open_shard(path: epath.Path, finished: list[Shard]) -> Iterator[ShardWriter]:
    """Writes a shard to a temporary name and renames it once it is whole.

    Args:
      path: the shard's final path.
      finished: gets the shard's description appended once it has its name.

    Raises:
      UserError: the disk is full or the path cannot be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            shard = ShardWriter(writer)
            yield shard
        described = Shard(
            path.name, shard.records, temporary.stat().length, sha256_of_file(temporary)
        )
        temporary.replace(path)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "message", None) or str(error)
        raise UserError(f"--output_dir: cannot write {path}: {reason}") from error
    finished.append(described)
