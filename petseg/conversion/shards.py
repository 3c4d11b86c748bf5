"""Writes one shard: prepares its examples in parts and joins the parts; or keeps it."""

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Sequence

from etils import epath

from petseg.conversion.plan import ShardTask
from petseg.conversion.prepare import Prepared, RecordOptions, prepare_examples, read_inputs
from petseg.data import manifest, shard_files
from petseg.data.manifest import Finding, Shard
from petseg.errors import FaultFound, shown

Advance = Callable[[], None]

# The names that `shard_name` makes, as a template of TFDS.
TFDS_FILENAME_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_SETTING = "--output_dir"
_CHUNK_BYTES = 4 << 20  # 4 MiB
_INPUTS_VERSION = "3"  # increased when the same inputs begin to give other bytes


@dataclasses.dataclass(frozen=True)
class WrittenPart:
    """A run of a shard's records in a file of its own.

    Attributes:
      path: Path of the temporary file.
      metadata: The metadata of the run, without the digest of its inputs.
      inputs: One line for each example.
    """

    path: str
    metadata: Shard
    inputs: bytes


def write_part(
    part: ShardTask, options: RecordOptions, output_dir: str, fail_on_bad: bool, advance: Advance
) -> WrittenPart:
    """Prepares a run of a shard's examples and writes its records to a temporary file.

    Args:
      part: The examples, under the shard's name.
      options: What decides over the records' bytes.
      output_dir: The data set's folder, with WORK_DIR in it.
      fail_on_bad: Raise for the first example that cannot be converted.
      advance: Called after each example.

    Raises:
      FaultFound: The disk is full or the folder cannot be written; or an example is bad
        and fail_on_bad is set.
    """
    path = shard_files.temporary(output_dir, part.name)
    sums = _PartSums(part.is_whole)
    with (
        shard_files.reported_as_fault(_SETTING, output_dir, part.name),
        shard_files.removed_on_failure(path),
        path.open("wb") as file,
    ):
        writeback = shard_files.Writeback(file)
        for item in prepare_examples(part.examples(), options):
            if item.rejected and fail_on_bad:
                raise _bad_input(shown(item.example.name), item.rejected)
            file.write(sums.add(item))
            writeback.advance()
            advance()
        if part.is_whole:
            shard_files.flush(file)
    return WrittenPart(str(path), sums.metadata(part.name), sums.inputs())


def join_parts(
    parts: Sequence[WrittenPart], options: RecordOptions, output_dir: str, advance: Advance
) -> Shard:
    """Joins a shard's parts under a temporary name, flushes the file and renames it.

    The shard's metadata are written to the work folder just before the renaming, so that a
    resumed conversion can trust a shard that has its name. A shard whose examples are all bad
    gets metadata, but no file.

    Args:
      parts: All parts of the shard, in order.
      options: What decides over the records' bytes.
      output_dir: The data set's folder, with WORK_DIR in it.
      advance: Not called, because the examples have been counted.

    Raises:
      FaultFound: The disk is full or the folder cannot be written.
    """
    del advance
    name, is_one = parts[0].metadata.name, len(parts) == 1
    joined = epath.Path(parts[0].path) if is_one else shard_files.temporary(output_dir, name)
    with (
        shard_files.reported_as_fault(_SETTING, output_dir, name),
        shard_files.removed_on_failure(joined),
    ):
        sha256 = parts[0].metadata.sha256 if is_one else _concatenate(parts, joined)
        digest = hashlib.sha256(_inputs_header(options))
        for part in parts:
            digest.update(part.inputs)
        shard = _add_up([part.metadata for part in parts], sha256, digest.hexdigest())
        shard_files.finish(joined, shard, output_dir)
    return shard


def keep_or_write_shard(
    task: ShardTask, options: RecordOptions, output_dir: str, fail_on_bad: bool, advance: Advance
) -> Shard:
    """Keeps a shard that an interrupted conversion left, if it is right, or writes it.

    It is right if it agrees with its metadata in the work folder and its inputs, read again, are
    the ones that it was made of. See write_part for arguments and errors.
    """
    known = shard_files.read_metadata(output_dir, task.name)
    if (
        known
        and shard_files.is_written(known, output_dir)
        and digest_of_inputs(options, task, lambda: None) == known.inputs
    ):
        if fail_on_bad and known.rejected:
            raise _bad_input(known.rejected[0].name, known.rejected[0].reason)
        for _ in range(task.records):
            advance()
        return known
    part = write_part(task, options, output_dir, fail_on_bad, advance)
    return join_parts([part], options, output_dir, advance)


def _bad_input(name: str, reason: str) -> FaultFound:
    return FaultFound(f"--on_bad=fail: {name}: {reason}")


def _concatenate(parts: Sequence[WrittenPart], target: epath.Path) -> str:
    """Moves the parts' files into one and returns its SHA-256."""
    digest = hashlib.sha256()
    with target.open("wb") as file:
        writeback = shard_files.Writeback(file)
        for part in parts:
            with epath.Path(part.path).open("rb") as source:
                while chunk := source.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
                    writeback.advance()
            epath.Path(part.path).unlink()
        shard_files.flush(file)
    return digest.hexdigest()


def _add_up(parts: Sequence[Shard], sha256: str, inputs: str) -> Shard:
    split = manifest.Split(tuple(parts))
    return Shard(
        name=parts[0].name,
        records=split.records,
        bytes=split.bytes,
        sha256=sha256,
        inputs=inputs,
        pixels_per_label=split.pixels_per_label,
        height_sum=sum(part.height_sum for part in parts),
        width_sum=sum(part.width_sum for part in parts),
        repaired=tuple(finding for part in parts for finding in part.repaired),
        rejected=tuple(finding for part in parts for finding in part.rejected),
        encoded_bytes=split.encoded_bytes,
    )


def digest_of_inputs(options: RecordOptions, task: ShardTask, advance: Advance) -> str:
    """Reads a task's inputs without decoding them; returns the `inputs` of its metadata."""
    digest = hashlib.sha256(_inputs_header(options))
    for example in task.examples():
        digest.update(read_inputs(example)[0].encode() + b"\n")
        advance()
    return digest.hexdigest()


def _inputs_header(options: RecordOptions) -> bytes:
    return f"{_INPUTS_VERSION} {options.spec()}\n".encode()


class _PartSums:
    """The sums over a part's examples while they are written; hashes only a whole shard."""

    def __init__(self, is_whole: bool):
        self._frames = shard_files.Frames(is_hashed=is_whole)
        self._inputs: list[bytes] = []
        self._height_sum = self._width_sum = self._encoded_bytes = 0
        self._pixels: collections.Counter = collections.Counter()
        self._repaired: list[Finding] = []
        self._rejected: list[Finding] = []

    def add(self, item: Prepared) -> bytes:
        """Counts an example and returns the bytes to append to the file."""
        self._inputs.append(item.inputs.encode() + b"\n")
        name, split = shown(item.example.name), item.example.split
        if item.rejected is not None:
            self._rejected.append(Finding(name, split, item.rejected))
            return b""
        self._height_sum += item.height
        self._width_sum += item.width
        self._encoded_bytes += item.encoded_bytes
        self._pixels.update(item.pixels_per_label)
        self._repaired += [Finding(name, split, reason) for reason in item.repairs]
        return self._frames.add(item.serialized)

    def inputs(self) -> bytes:
        """Returns one line for each example."""
        return b"".join(self._inputs)

    def metadata(self, name: str) -> Shard:
        """Returns the metadata of what was written."""
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
            encoded_bytes=self._encoded_bytes,
        )
