"""Which example goes into which shard, and how one shard is written."""

import collections
import contextlib
import dataclasses
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, TypeVar

from etils import epath

from petseg import manifest, tfrecord
from petseg.conversion.prepare import Prepared, Settings, prepare_example, read_inputs
from petseg.conversion.sources import SourceExample
from petseg.errors import FaultFound, shown
from petseg.manifest import Finding, Shard

T = TypeVar("T")
Advance = Callable[[], None]

# TFDS's words for the names that `shard_name` makes.
TFDS_FILENAME_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
# Within the output folder while it is not finished: each shard's account, for a restart.
WORK_DIR = "UNFINISHED_CONVERSION"
_CHUNK_BYTES = 4 << 20  # 4 MiB
_INPUTS_VERSION = "1"  # another one if the same inputs come to give other bytes


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """One shard to write.

    Attributes:
      name: the file's name.
      examples: what goes into it, in order.
      is_whole: whether these are all of the shard's examples.
    """

    name: str
    examples: tuple[SourceExample, ...]
    is_whole: bool = True


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


def parts_of(task: ShardTask, count: int) -> list[ShardTask]:
    """A shard's examples in runs that several workers can prepare at a time."""
    size = -(-len(task.examples) // count)
    return [
        ShardTask(task.name, task.examples[start : start + size], size >= len(task.examples))
        for start in range(0, len(task.examples), size)
    ]


@dataclasses.dataclass(frozen=True)
class WrittenPart:
    """A run of a shard's records in a file of its own.

    Attributes:
      path: the file, temporary.
      account: as of a shard, without the digest of its inputs.
      inputs: a line for each example.
    """

    path: str
    account: Shard
    inputs: bytes


def write_part(
    part: ShardTask, settings: Settings, output_dir: str, fail_on_bad: bool, advance: Advance
) -> WrittenPart:
    """Prepares a run of a shard's examples and writes its records to a temporary file.

    Args:
      part: the examples, under the shard's name.
      settings: what decides over the records.
      output_dir: the data set's folder, with WORK_DIR in it.
      fail_on_bad: raise for the first example that cannot be converted.
      advance: called after each example.

    Raises:
      FaultFound: the disk is full or the folder cannot be written; or an example is bad
        and fail_on_bad is set.
    """
    path = _temporary(output_dir, part.name)
    writing = _Writing(part.is_whole)
    with _told_as_fault(output_dir, part.name), _removed_on_failure(path), path.open("wb") as file:
        for example in part.examples:
            item = prepare_example(example, settings)
            if item.rejected and fail_on_bad:
                raise FaultFound(f"--on_bad=fail: {shown(example.name)}: {item.rejected}")
            file.write(writing.add(item))
            advance()
        if part.is_whole:
            _flush(file)
    return WrittenPart(str(path), writing.account(part.name), writing.inputs())


def join_parts(
    parts: Sequence[WrittenPart], settings: Settings, output_dir: str, advance: Advance
) -> Shard:
    """Makes a shard of its parts: under a temporary name, flushed, then renamed.

    Its account is written to the work folder just before, so that a shard that has its
    name is one that a restart can trust. A shard whose examples are all bad gets an
    account, but no file.

    Args:
      parts: all of the shard's, in order.
      settings: what decides over the records.
      output_dir: the data set's folder, with WORK_DIR in it.
      advance: not called: the examples have been counted.

    Raises:
      FaultFound: the disk is full or the folder cannot be written.
    """
    del advance
    name = parts[0].account.name
    joined = epath.Path(parts[0].path) if len(parts) == 1 else _temporary(output_dir, name)
    with _told_as_fault(output_dir, name), _removed_on_failure(joined):
        sha256 = parts[0].account.sha256 if len(parts) == 1 else _concatenate(parts, joined)
        digest = hashlib.sha256(_inputs_header(settings))
        for part in parts:
            digest.update(part.inputs)
        account = _add_up([part.account for part in parts], sha256, digest.hexdigest())
        output = epath.Path(output_dir)
        (output / WORK_DIR / f"{name}.json").write_text(manifest.shard_to_json(account))
        if account.records:
            joined.replace(output / name)
        else:
            joined.unlink()
    return account


def write_shard(
    task: ShardTask, settings: Settings, output_dir: str, fail_on_bad: bool, advance: Advance
) -> Shard:
    """Writes one shard in one go; arguments and errors as of write_part."""
    part = write_part(task, settings, output_dir, fail_on_bad, advance)
    return join_parts([part], settings, output_dir, advance)


def _concatenate(parts: Sequence[WrittenPart], target: epath.Path) -> str:
    """Copies the parts' files one after the other; gives the SHA-256 of the whole."""
    digest = hashlib.sha256()
    with target.open("wb") as file:
        for part in parts:
            with epath.Path(part.path).open("rb") as source:
                while chunk := source.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
            epath.Path(part.path).unlink()
        _flush(file)
    return digest.hexdigest()


def _add_up(accounts: Sequence[Shard], sha256: str, inputs: str) -> Shard:
    split = manifest.Split(tuple(accounts))
    return Shard(
        name=accounts[0].name,
        records=split.records,
        bytes=split.bytes,
        sha256=sha256,
        inputs=inputs,
        pixels_per_label=split.pixels_per_label,
        height_sum=sum(account.height_sum for account in accounts),
        width_sum=sum(account.width_sum for account in accounts),
        repaired=tuple(finding for account in accounts for finding in account.repaired),
        rejected=tuple(finding for account in accounts for finding in account.rejected),
    )


def _temporary(output_dir: str, name: str) -> epath.Path:
    """A file of this process's own: on a cluster a task may run twice at a time."""
    suffix = f"tmp-{os.getpid()}-{os.urandom(4).hex()}"
    return epath.Path(output_dir) / WORK_DIR / f"{name}.{suffix}"


def _flush(file: BinaryIO) -> None:
    """Has the disk hold what was written; object stores do so when a file is closed."""
    file.flush()
    # Nothing else: what a full or failing disk says here must be heard.
    with contextlib.suppress(AttributeError, io.UnsupportedOperation):
        os.fsync(file.fileno())


@contextlib.contextmanager
def _told_as_fault(output_dir: str, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise FaultFound(f"--output_dir: cannot write {output_dir}/{name}: {reason}") from error


@contextlib.contextmanager
def _removed_on_failure(path: epath.Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


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


def digest_of_inputs(settings: Settings, task: ShardTask, advance: Advance) -> str:
    """Reads a task's inputs, without decoding them: the `inputs` of its account."""
    digest = hashlib.sha256(_inputs_header(settings))
    for example in task.examples:
        digest.update(read_inputs(example)[0].encode() + b"\n")
        advance()
    return digest.hexdigest()


def _inputs_header(settings: Settings) -> bytes:
    return f"{_INPUTS_VERSION} {settings.spec()}\n".encode()


class _Writing:
    """What records add up to while they are written; the hash only of a whole shard."""

    def __init__(self, is_whole: bool):
        self._is_whole = is_whole
        self._inputs: list[bytes] = []
        self._sha256 = hashlib.sha256()
        self._bytes = self._records = self._height_sum = self._width_sum = 0
        self._pixels: collections.Counter = collections.Counter()
        self._repaired: list[Finding] = []
        self._rejected: list[Finding] = []

    def add(self, item: Prepared) -> bytes:
        """Counts an example and gives the bytes to append to the file."""
        self._inputs.append(item.inputs.encode() + b"\n")
        name, split = shown(item.example.name), item.example.split
        if item.rejected is not None:
            self._rejected.append(Finding(name, split, item.rejected))
            return b""
        framed = tfrecord.frame(item.serialized)
        if self._is_whole:
            self._sha256.update(framed)
        self._bytes += len(framed)
        self._records += 1
        self._height_sum += item.height
        self._width_sum += item.width
        self._pixels.update(item.pixels_per_label)
        self._repaired += [Finding(name, split, reason) for reason in item.repairs]
        return framed

    def inputs(self) -> bytes:
        """A line for each example."""
        return b"".join(self._inputs)

    def account(self, name: str) -> Shard:
        """What was written."""
        return Shard(
            name=name,
            records=self._records,
            bytes=self._bytes,
            sha256=self._sha256.hexdigest(),
            inputs="",
            pixels_per_label=dict(self._pixels),
            height_sum=self._height_sum,
            width_sum=self._width_sum,
            repaired=tuple(self._repaired),
            rejected=tuple(self._rejected),
        )
