"""Writes the data set of a source's listing: shards, TFDS metadata, manifest."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from etils import epath

from petseg import processes
from petseg.conversion import masks, review
from petseg.conversion.prepare import RecordOptions, prepare_example
from petseg.conversion.shards import Advance, ShardTask
from petseg.conversion.sources.base import SPLITS, SourceExample, SourceListing, hash_order
from petseg.conversion.tfds_metadata import FILE_NAMES, write_tfds_metadata
from petseg.conversion.write_shards import RunnerOptions, with_unchanged_inputs, write_shards
from petseg.data import manifest, shard_files
from petseg.data.manifest import Finding, Manifest, Shard, Split
from petseg.errors import FaultFound, UserError, shown

# Split -> its examples, in the order in which they are stored.
_BySplit = Mapping[str, Sequence[SourceExample]]

_SAMPLE_EXAMPLES = 32  # enough to estimate how much smaller --short_side makes the records


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


def write_dataset(listing: SourceListing, options: WriteOptions) -> Manifest:
    """Checks every example of a listing and writes those that are good to shards.

    Names and sizes alone decide which example goes into which shard, so that the same
    listing and options give byte-identical files on every runner. Shards of an interrupted
    conversion are kept if their inputs, read again, and their SHA-256 are those of their
    metadata. A finished data set is not changed, except that a lost shard is written again.
    The manifest is written last.

    Args:
      listing: The examples to convert.
      options: How, and where to.

    Returns:
      The manifest as written.

    Raises:
      UserError: The folder contains another finished data set, or no example is convertible.
      FaultFound: The folder cannot be written; or an input is bad and fail_on_bad is set.
    """
    lost = filter(review.is_loss, listing.rejected)
    if options.fail_on_bad and (first := next(lost, None)):
        raise FaultFound(f"--on_bad=fail: {first.name}: {first.reason}")
    by_split = _in_stored_order(listing.examples)
    source_bytes_per_shard = options.shard_mib * (1 << 20) / _size_ratio(by_split, options)
    if (epath.Path(options.output_dir) / manifest.FILE_NAME).exists():
        finished = manifest.read_manifest(options.output_dir)
        _check_is_same(finished, listing, options)
        _restore_lost_shards(finished, by_split, source_bytes_per_shard, options)
    else:
        finished = _write_new(listing, by_split, source_bytes_per_shard, options)
    if not all((epath.Path(options.output_dir) / file).exists() for file in FILE_NAMES):
        write_tfds_metadata(options.output_dir, finished, listing.class_names)
    return finished


def _in_stored_order(examples: Sequence[SourceExample]) -> dict[str, list[SourceExample]]:
    by_split: dict[str, list[SourceExample]] = {}
    for example in sorted(examples, key=lambda e: hash_order(e.name)):
        by_split.setdefault(example.split, []).append(example)
    return by_split


def _size_ratio(by_split: _BySplit, options: WriteOptions) -> float:
    """Estimates stored bytes / source bytes from the first examples; 1 without resizing."""
    if not options.records.short_side_px or not by_split:
        return 1.0
    sample = next(iter(by_split.values()))[:_SAMPLE_EXAMPLES]
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


def _write_new(
    listing: SourceListing,
    by_split: _BySplit,
    source_bytes_per_shard: float,
    options: WriteOptions,
) -> Manifest:
    """Writes a data set from the first shard to the manifest."""
    splits, unplaced = _write_splits(by_split, source_bytes_per_shard, options)
    if not splits:
        first = (list(listing.rejected) + unplaced)[0]
        raise UserError(
            f"not one of {len(listing.examples)} images could be converted; the first: "
            f"{first.name}: {first.reason}"
        )
    finished = Manifest(
        name=options.name,
        source=dict(options.source),
        raw_labels=masks.merge_names(listing.masks, _counted(splits)),
        splits=splits,
        unplaced=(*listing.rejected, *unplaced),
        colours={v: colour for colour, v in sorted(listing.masks.values_of_colours.items())},
    )
    names = {shard.name for split in splits.values() for shard in split.shards}
    shard_files.remove_others(options.output_dir, names)
    write_tfds_metadata(options.output_dir, finished, listing.class_names)
    manifest.write_manifest(options.output_dir, finished)
    return finished


def _counted(splits: Mapping[str, Split]) -> dict[int, int]:
    """Returns raw value -> pixels in some split, for each value that occurs."""
    return {v: n for split in splits.values() for v, n in split.pixels_per_label.items()}


def _write_splits(
    by_split: _BySplit, source_bytes_per_shard: float, options: WriteOptions
) -> tuple[dict[str, Split], list[Finding]]:
    """Writes all shards, none of them empty.

    Returns:
      The splits that have records, and the rejected inputs that belong to none of the shards.
    """
    planned = _plan(by_split, options.name, source_bytes_per_shard)
    splits: dict[str, Split] = {}
    unplaced: list[Finding] = []
    while planned:
        tasks = [task for of_split in planned.values() for task in of_split]
        by_name = write_shards(
            tasks, options.records, options.output_dir, options.fail_on_bad, options.runner
        )
        to_plan_again = {}
        for split, of_split in planned.items():
            written = [by_name[task.name] for task in of_split]
            if all(shard.records for shard in written):
                splits[split] = Split(tuple(written))
                continue
            # A shard whose examples are all bad would be empty: plan again without them.
            unplaced += [finding for shard in written for finding in shard.rejected]
            to_plan_again[split] = _remove_shards(of_split, written, options.output_dir)
        planned = _plan(to_plan_again, options.name, source_bytes_per_shard)
    return {split: splits[split] for split in SPLITS if split in splits}, unplaced


def _plan(
    by_split: _BySplit, name: str, source_bytes_per_shard: float
) -> dict[str, list[ShardTask]]:
    """Returns the shards of each split."""
    tasks = {}
    for split in (split for split in SPLITS if by_split.get(split)):
        sizes = [example.pair.bytes for example in by_split[split]]
        parts = shard_files.plan_shards(by_split[split], sizes, source_bytes_per_shard)
        tasks[split] = [
            ShardTask(manifest.shard_name(name, split, index, len(parts)), tuple(part))
            for index, part in enumerate(parts)
        ]
    return tasks


def _remove_shards(
    tasks: Sequence[ShardTask], written: Sequence[Shard], output_dir: str
) -> list[SourceExample]:
    """Removes a split's shards and returns the examples that were not rejected."""
    examples = []
    for task, shard in zip(tasks, written, strict=True):
        bad = {finding.name for finding in shard.rejected}
        examples += [e for e in task.examples if shown(e.name) not in bad]
        (epath.Path(output_dir) / shard.name).unlink(missing_ok=True)
    return examples


def _check_is_same(finished: Manifest, listing: SourceListing, options: WriteOptions) -> None:
    """Raises UserError if flags, class names or unpaired inputs have changed."""
    raw_labels = masks.merge_names(listing.masks, _counted(finished.splits))
    unplaced = finished.unplaced[: len(listing.rejected)]
    if (
        finished.source != options.source
        or raw_labels != finished.raw_labels
        # Another petseg may have said the same in other words.
        or [(f.name, f.split) for f in unplaced] != [(f.name, f.split) for f in listing.rejected]
    ):
        raise _other_inputs(options.output_dir)


def _other_inputs(output_dir: str) -> UserError:
    return UserError(
        f"--output_dir: {output_dir} is a finished data set, made from other inputs, with other "
        "flags or by another version of petseg; name a new folder, or delete it first"
    )


def _restore_lost_shards(
    finished: Manifest,
    by_split: _BySplit,
    source_bytes_per_shard: float,
    options: WriteOptions,
) -> None:
    """Writes the shards again that a finished data set has lost.

    Raises:
      UserError: Anything else differs from the manifest.
    """
    output_dir = options.output_dir
    known = {shard.name: shard for split in finished.splits.values() for shard in split.shards}
    # The plan that was written in the end may be one without the inputs that filled a shard
    # with bad examples alone.
    bad = {finding.name for finding in finished.unplaced}
    good = {s: [e for e in of if shown(e.name) not in bad] for s, of in by_split.items()}
    for examples in (by_split, good):
        planned = _plan(examples, options.name, source_bytes_per_shard)
        tasks = [task for of_split in planned.values() for task in of_split]
        if {task.name for task in tasks} == known.keys():
            break
    else:
        raise _other_inputs(output_dir)
    unchanged = with_unchanged_inputs(tasks, known, options.records, options.runner)
    if len(unchanged) < len(tasks):
        raise _other_inputs(output_dir)
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
