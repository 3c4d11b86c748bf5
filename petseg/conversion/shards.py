"""Which example goes into which shard, and how one shard is written."""

import collections
import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

from etils import epath

from petseg import manifest, tfrecord
from petseg.conversion.prepare import Prepared, Settings, prepare_example, read_inputs
from petseg.conversion.sources import SourceExample
from petseg.errors import FaultFound, shown
from petseg.manifest import Finding, Shard

T = TypeVar("T")

# TFDS's words for the names that `shard_name` makes.
TFDS_FILENAME_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
# Within the output folder while it is not finished: each shard's account, for a restart.
WORK_DIR = "UNFINISHED_CONVERSION"
_INPUTS_VERSION = "1"  # another one if the same inputs come to give other bytes


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """One shard to write.

    Attributes:
      name: the file's name.
      examples: what goes into it, in order.
    """

    name: str
    examples: tuple[SourceExample, ...]


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


def write_shard(
    task: ShardTask,
    advance: Callable[[], None],
    settings: Settings,
    output_dir: str,
    *,
    fail_on_bad: bool,
) -> Shard:
    """Writes one shard under a temporary name, flushes it, and renames it once it is whole.

    Its account is written to the work folder just before, so that a shard that has its
    name is one that a restart can trust. A shard whose examples are all bad gets an
    account, but no file.

    Args:
      task: the shard.
      advance: called after each example.
      settings: what decides over the records.
      output_dir: the data set's folder, with WORK_DIR in it.
      fail_on_bad: raise for the first example that cannot be converted.

    Raises:
      FaultFound: the disk is full or the folder cannot be written; or an example is bad
        and fail_on_bad is set.
    """
    path = epath.Path(output_dir) / task.name
    # Of this process's own: on a cluster a task may be run twice at a time.
    temporary = path.parent / WORK_DIR / f"{task.name}.tmp-{os.getpid()}-{os.urandom(4).hex()}"
    writing = _Writing(settings)
    try:
        with temporary.open("wb") as file:
            for example in task.examples:
                item = prepare_example(example, settings)
                if item.rejected and fail_on_bad:
                    raise FaultFound(f"--on_bad=fail: {shown(item.example.name)}: {item.rejected}")
                file.write(writing.add(item))
                advance()
            file.flush()
            if "://" not in output_dir:
                os.fsync(file.fileno())
        finished = writing.account(task.name)
        account = path.parent / WORK_DIR / f"{task.name}.json"
        account.write_text(manifest.shard_to_json(finished))
        if finished.records:
            temporary.replace(path)
    except OSError as error:
        raise FaultFound(f"--output_dir: cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return finished


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


def digest_of_inputs(task: ShardTask, advance: Callable[[], None], settings: Settings) -> str:
    """Reads a task's inputs, without decoding them: the `inputs` of its account."""
    digest = _new_digest(settings)
    for example in task.examples:
        digest.update(read_inputs(example)[0].encode() + b"\n")
        advance()
    return digest.hexdigest()


def _new_digest(settings: Settings):  # noqa: ANN202  (hashlib's own type has no public name)
    return hashlib.sha256(f"{_INPUTS_VERSION} {settings.spec()}\n".encode())


class _Writing:
    """What a shard's records add up to while they are written."""

    def __init__(self, settings: Settings):
        self._inputs = _new_digest(settings)
        self._sha256 = hashlib.sha256()
        self._bytes = self._records = self._height_sum = self._width_sum = 0
        self._pixels: collections.Counter = collections.Counter()
        self._repaired: list[Finding] = []
        self._rejected: list[Finding] = []

    def add(self, item: Prepared) -> bytes:
        """Counts an example and gives the bytes to append to the file."""
        self._inputs.update(item.inputs.encode() + b"\n")
        name, split = shown(item.example.name), item.example.split
        if item.rejected is not None:
            self._rejected.append(Finding(name, split, item.rejected))
            return b""
        framed = tfrecord.frame(item.serialized)
        self._sha256.update(framed)
        self._bytes += len(framed)
        self._records += 1
        self._height_sum += item.height
        self._width_sum += item.width
        self._pixels.update(item.pixels_per_label)
        self._repaired += [Finding(name, split, reason) for reason in item.repairs]
        return framed

    def account(self, name: str) -> Shard:
        """What was written."""
        return Shard(
            name=name,
            records=self._records,
            bytes=self._bytes,
            sha256=self._sha256.hexdigest(),
            inputs=self._inputs.hexdigest(),
            pixels_per_label={label: self._pixels[label] for label in sorted(self._pixels)},
            height_sum=self._height_sum,
            width_sum=self._width_sum,
            repaired=tuple(self._repaired),
            rejected=tuple(self._rejected),
        )
