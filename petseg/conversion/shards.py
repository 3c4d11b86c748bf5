"""Which example goes into which shard, and how one shard is written."""

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Sequence

from etils import epath

from petseg.conversion.prepare import Prepared, Settings, prepare_example, read_inputs
from petseg.conversion.sources.base import SourceExample
from petseg.data import manifest, shard_files
from petseg.data.manifest import Finding, Shard
from petseg.errors import FaultFound, shown

Advance = Callable[[], None]

# TFDS's words for the names that `shard_name` makes.
TFDS_FILENAME_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_SETTING = "--output_dir"
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
    path = shard_files.temporary(output_dir, part.name)
    writing = _Writing(part.is_whole)
    with (
        shard_files.told_as_fault(_SETTING, output_dir, part.name),
        shard_files.removed_on_failure(path),
        path.open("wb") as file,
    ):
        for example in part.examples:
            item = prepare_example(example, settings)
            if item.rejected and fail_on_bad:
                raise FaultFound(f"--on_bad=fail: {shown(example.name)}: {item.rejected}")
            file.write(writing.add(item))
            advance()
        if part.is_whole:
            shard_files.flush(file)
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
    name, is_one = parts[0].account.name, len(parts) == 1
    joined = epath.Path(parts[0].path) if is_one else shard_files.temporary(output_dir, name)
    with (
        shard_files.told_as_fault(_SETTING, output_dir, name),
        shard_files.removed_on_failure(joined),
    ):
        sha256 = parts[0].account.sha256 if is_one else _concatenate(parts, joined)
        digest = hashlib.sha256(_inputs_header(settings))
        for part in parts:
            digest.update(part.inputs)
        account = _add_up([part.account for part in parts], sha256, digest.hexdigest())
        shard_files.finish(joined, account, output_dir)
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
        shard_files.flush(file)
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
        self._frames = shard_files.Frames(is_hashed=is_whole)
        self._inputs: list[bytes] = []
        self._height_sum = self._width_sum = 0
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
        self._height_sum += item.height
        self._width_sum += item.width
        self._pixels.update(item.pixels_per_label)
        self._repaired += [Finding(name, split, reason) for reason in item.repairs]
        return self._frames.add(item.serialized)

    def inputs(self) -> bytes:
        """A line for each example."""
        return b"".join(self._inputs)

    def account(self, name: str) -> Shard:
        """What was written."""
        return Shard(
            name=name,
            records=self._frames.records,
            bytes=self._frames.bytes,
            sha256=self._frames.sha256(),
            inputs="",
            pixels_per_label=dict(self._pixels),
            height_sum=self._height_sum,
            width_sum=self._width_sum,
            repaired=tuple(self._repaired),
            rejected=tuple(self._rejected),
        )
