"""Writes the data set of a source's listing: shards, TFDS metadata, manifest."""

import dataclasses
import functools
import itertools
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from etils import epath

from petseg import processes
from petseg.conversion import masks, plan, review, shards
from petseg.conversion.choices import SPLITS
from petseg.conversion.plan import Plan, ShardTask
from petseg.conversion.prepare import RecordOptions, prepare_example
from petseg.conversion.shards import Advance
from petseg.conversion.sources.base import SourceExample, SourceListing
from petseg.conversion.tfds_metadata import FILE_NAMES, write_tfds_metadata
from petseg.conversion.write_shards import RunnerOptions, write_shards
from petseg.data import findings, manifest, shard_files
from petseg.data.manifest import Finding, Manifest, Shard, Split
from petseg.data.store_kinds import RAW
from petseg.errors import FaultFound, UserError

_SAMPLE_EXAMPLES = 32  # enough to estimate how --short_side and --store change records' sizes

# Split -> its shards.
_Tasks = Mapping[str, list[ShardTask]]


@dataclasses.dataclass(frozen=True)
class WriteOptions:
    """Everything that decides over a data set besides its listing.

    Attributes:
      output_dir: A folder within output_folder.claim.
      name: The first part of the shards' file names.
      source: How the listing was made; it is stored in the manifest.
      records: What decides over a record's bytes.
      shard_mib: The approximate size of a shard, in MiB.
      fail_on_bad: Stop at an input that cannot be converted.
      runner: What writes the shards.
    """

    output_dir: str
    name: str
    source: Mapping[str, str | int | float]
    records: RecordOptions
    shard_mib: float = 128
    fail_on_bad: bool = False
    runner: RunnerOptions = dataclasses.field(default_factory=RunnerOptions)


def write_dataset(listing: SourceListing, planned: Plan, options: WriteOptions) -> Manifest:
    """Checks every example of a listing and writes those that are good to shards.

    Names and sizes alone decide which example goes into which shard, so that the same
    listing and options give byte-identical files on every runner. Shards of an interrupted
    conversion are kept if their inputs, read again, and their SHA-256 are those of their
    metadata. A finished data set is not changed, except that a lost shard is written again.
    The manifest is written last.

    Args:
      listing: What the source says besides its examples.
      planned: The examples to convert, in a folder of new_plan_folder.
      options: How, and where to.

    Returns:
      The manifest as written.

    Raises:
      UserError: The folder contains another finished data set, or no example is convertible, or
        raw pictures take more space than there is.
      FaultFound: The folder cannot be written; or an input is bad and fail_on_bad is set.
    """
    lost = filter(review.is_loss, listing.rejected)
    if options.fail_on_bad and (first := next(lost, None)):
        raise FaultFound(f"--on_bad=fail: {first.name}: {first.reason}")
    ratio = _size_ratio(planned, options)
    bytes_per_shard = options.shard_mib * (1 << 20) / ratio
    if (epath.Path(options.output_dir) / manifest.FILE_NAME).exists():
        finished = manifest.read_manifest(options.output_dir)
        _check_is_same(finished, listing, options)
        _restore_lost_shards(finished, listing, planned, bytes_per_shard, options)
    else:
        if options.records.store == RAW:
            _check_space(ratio * sum(map(planned.bytes, planned.splits)), options)
        finished = _write_new(listing, planned, bytes_per_shard, options)
    if not all((epath.Path(options.output_dir) / file).exists() for file in FILE_NAMES):
        write_tfds_metadata(options.output_dir, finished, listing.class_names)
    return finished


def new_plan_folder(output_dir: str, name: str = "plan") -> str:
    """Makes a folder in the work folder; as a temporary one it is removed in any case."""
    folder = epath.Path(output_dir) / shard_files.WORK_DIR / f"{name}.tmp"
    folder.mkdir()
    return str(folder)


def _size_ratio(planned: Plan, options: WriteOptions) -> float:
    """Estimates stored bytes / source bytes from the first examples; 1 where files are copied."""
    is_raw = options.records.store == RAW
    if not (options.records.short_side_px or is_raw) or not planned.splits:
        return 1.0
    if not is_raw and max(map(planned.bytes, planned.splits)) <= options.shard_mib * (1 << 20):
        return 1.0  # each split fits in one shard anyhow
    first = planned.examples(planned.splits[0])
    sample = list(itertools.islice(first, _SAMPLE_EXAMPLES))
    # In other processes, because a process that has TensorFlow's threads cannot fork safely.
    stored = processes.map_in_processes(
        functools.partial(_stored_bytes, options.records),
        sample,
        [1] * len(sample),
        workers=options.runner.workers,
        what="sample",
        show_progress=False,
    )
    sources = [example.pair.bytes for example, size in zip(sample, stored, strict=True) if size]
    return sum(stored) / sum(sources) if sum(sources) else 1.0


def _stored_bytes(record_options: RecordOptions, example: SourceExample, advance: Advance) -> int:
    size = len(prepare_example(example, record_options).serialized)
    advance()
    return size


def _check_space(needed_bytes: float, options: WriteOptions) -> None:
    """Raises UserError if the disk has less than that, and than what a conversion has left."""
    if "://" in options.output_dir:
        return
    folder = options.output_dir
    written = (Path(folder) / name for name in shard_files.begun(folder))
    held_bytes = sum(path.stat().st_size for path in written if path.exists())
    free_bytes = shutil.disk_usage(folder).free + held_bytes
    if needed_bytes > free_bytes:
        raise UserError(
            f"--output_dir: {folder}: raw, the pictures take about {round(needed_bytes) >> 20:,} "
            f"MiB, {free_bytes >> 20:,} MiB are free; take another disk, a smaller --short_side, "
            "or leave out --store=raw"
        )


def _write_new(
    listing: SourceListing, planned: Plan, bytes_per_shard: float, options: WriteOptions
) -> Manifest:
    """Writes a data set from the first shard to the manifest."""
    tasks, bad = _write_splits(planned, bytes_per_shard, options)
    unplaced = itertools.chain(listing.rejected, bad)
    if not tasks:
        raise _nothing_converted(planned.records, bad or listing.rejected)
    names = [task.name for of_split in tasks.values() for task in of_split]
    metadata = (_metadata(options.output_dir, name) for name in names)
    kept_unplaced, kept, file = findings.gather(options.output_dir, unplaced, metadata)
    of_splits = iter(kept)
    splits = {
        split: Split(tuple(itertools.islice(of_splits, len(of)))) for split, of in tasks.items()
    }
    finished = Manifest(
        name=options.name,
        source=dict(options.source),
        raw_labels=masks.merge_names(listing.masks, _counted(splits)),
        splits=splits,
        unplaced=kept_unplaced,
        colours={v: colour for colour, v in sorted(listing.masks.values_of_colours.items())},
        findings=file,
        store=options.records.store,
    )
    shard_files.remove_others(options.output_dir, set(names))
    write_tfds_metadata(options.output_dir, finished, listing.class_names)
    manifest.write_manifest(options.output_dir, finished)
    return finished


def _nothing_converted(examples: int, rejected: Iterable[Finding]) -> UserError:
    kinds = review.by_kind(rejected, most=1)
    most = max(kinds, key=lambda kind: kind.count)
    (first,) = most.first
    return UserError(
        f"not one of {examples:,} images could be converted; {most.count:,} for one reason, such "
        f"as {first.name}: {first.reason}"
        + (f"; reasons in all: {len(kinds)}" if len(kinds) > 1 else "")
    )


def _counted(splits: Mapping[str, Split]) -> dict[int, int]:
    """Returns raw value -> pixels in some split, for each value that occurs."""
    return {v: n for split in splits.values() for v, n in split.pixels_per_label.items()}


def _metadata(output_dir: str, name: str) -> Shard:
    if metadata := shard_files.read_metadata(output_dir, name):
        return metadata
    raise FaultFound(
        f"--output_dir: {output_dir} lacks {name}: do all workers of the runner write to that "
        "folder? Run again to resume"
    )


def _write_splits(
    planned: Plan, bytes_per_shard: float, options: WriteOptions
) -> tuple[_Tasks, list[Finding]]:
    """Writes the shards of all splits; returns them, and bad inputs that are in none of them.

    A shard whose examples are all bad would be empty: then the split is planned again without
    its bad examples.
    """
    tasks = _tasks(planned, planned.splits, bytes_per_shard, options.name)
    done: dict[str, list[ShardTask]] = {}
    bad: list[Finding] = []
    while tasks:
        write_shards(
            [task for of_split in tasks.values() for task in of_split],
            *(options.records, options.output_dir, options.fail_on_bad, options.runner),
        )
        again = []
        for split, of_split in tasks.items():
            if all(_metadata(options.output_dir, task.name).records for task in of_split):
                done[split] = of_split
                continue
            again.append(split)
            for task in of_split:
                bad += _metadata(options.output_dir, task.name).rejected
                (epath.Path(options.output_dir) / task.name).unlink(missing_ok=True)
        if again:
            folder = new_plan_folder(options.output_dir, f"plan-{len(bad)}")
            planned = plan.excluding(planned, {finding.name for finding in bad}, folder)
        tasks = _tasks(planned, again, bytes_per_shard, options.name)
    return {split: done[split] for split in SPLITS if split in done}, bad


def _tasks(planned: Plan, splits: Collection[str], bytes_per_shard: float, name: str) -> _Tasks:
    """Returns the shards of each of some splits."""
    return {
        split: planned.tasks(split, name, bytes_per_shard)
        for split in planned.splits
        if split in splits
    }


def _check_is_same(finished: Manifest, listing: SourceListing, options: WriteOptions) -> None:
    """Raises UserError if flags, class names or unpaired inputs have changed."""
    raw_labels = masks.merge_names(listing.masks, _counted(finished.splits))
    if (
        finished.source != options.source
        or finished.store != options.records.store
        or raw_labels != finished.raw_labels
        # Another petseg may have said the same in other words.
        or not findings.begin_with(
            findings.rejected(options.output_dir, finished), listing.rejected
        )
    ):
        raise _other_inputs(options.output_dir)


def _other_inputs(output_dir: str) -> UserError:
    return UserError(
        f"--output_dir: {output_dir} is a finished data set, made from other inputs, with other "
        "flags or by another version of petseg; name a new folder, or delete it first"
    )


def _restore_lost_shards(
    finished: Manifest,
    listing: SourceListing,
    planned: Plan,
    bytes_per_shard: float,
    options: WriteOptions,
) -> None:
    """Writes the shards again that a finished data set has lost.

    Raises:
      UserError: Anything else differs from the manifest.
    """
    output_dir = options.output_dir
    known = {shard.name: shard for split in finished.splits.values() for shard in split.shards}
    tasks = _unchanged_tasks(finished, listing, planned, bytes_per_shard, options)
    lost = [task for task in tasks if not shard_files.is_written(known[task.name], output_dir)]
    for task in lost:
        (epath.Path(output_dir) / task.name).unlink(missing_ok=True)
    write_shards(lost, options.records, output_dir, False, options.runner)
    for task in lost:
        if not shard_files.is_written(known[task.name], output_dir):
            raise UserError(
                f"--output_dir: {output_dir}: {task.name}, written again, differs from the "
                "manifest; name a new folder and convert again"
            )


def _unchanged_tasks(
    finished: Manifest,
    listing: SourceListing,
    planned: Plan,
    bytes_per_shard: float,
    options: WriteOptions,
) -> list[ShardTask]:
    """Returns the shards of a finished data set, whose inputs are read again and compared.

    Those of a split may have been planned in the end without its bad inputs; see _write_splits.

    Raises:
      UserError: They, or their inputs, are others.
    """
    found: list[ShardTask] = []
    left = {*planned.splits, *finished.splits}
    for is_without_bad in (False, True):
        if is_without_bad:
            # Those of the listing come first; an example may have the name of one.
            own = sum(1 for _ in listing.rejected)
            rejected = findings.rejected(options.output_dir, finished)
            bad = {finding.name for finding in itertools.islice(rejected, own, None)}
            folder = new_plan_folder(options.output_dir, "plan-of-good")
            planned = plan.excluding(planned, bad, folder)
        for split, tasks in _tasks(planned, left, bytes_per_shard, options.name).items():
            if split in finished.splits and _are_of(tasks, finished.splits[split], options):
                found += tasks
                left.remove(split)
        if not left or not left & {*planned.splits, *finished.splits}:
            return found
    raise _other_inputs(options.output_dir)


def _are_of(tasks: Sequence[ShardTask], split: Split, options: WriteOptions) -> bool:
    """Whether shards and their inputs are those of a split."""
    if [task.name for task in tasks] != [shard.name for shard in split.shards]:
        return False
    digests = processes.map_in_processes(
        functools.partial(shards.digest_of_inputs, options.records),
        tasks,
        [task.records for task in tasks],
        workers=options.runner.workers,
        what="compare",
        show_progress=options.runner.show_progress,
    )
    return digests == [shard.inputs for shard in split.shards]
