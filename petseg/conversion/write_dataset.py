"""Turns a source's listing into a finished data set: shards, TFDS metadata, manifest."""

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence

from etils import epath

from petseg import processes
from petseg.conversion import beam_runner, local_runner, masks, shards
from petseg.conversion.prepare import Settings, prepare_example
from petseg.conversion.shards import ShardTask
from petseg.conversion.sources.base import SPLITS, SourceExample, SourceListing, hash_order
from petseg.conversion.tfds_metadata import FILE_NAMES, write_tfds_metadata
from petseg.data import manifest, shard_files
from petseg.data.manifest import Finding, Manifest, Shard, Split
from petseg.errors import FaultFound, UserError, shown

_SAMPLED = 32  # examples, to learn how much smaller they become


@dataclasses.dataclass(frozen=True)
class Runner:
    """Who writes the shards.

    Attributes:
      kind: 'local' or 'beam'.
      workers: processes of the local runner.
      beam_args: Beam's own options.
      show_progress: draw progress bars on standard error.
    """

    kind: str = "local"
    workers: int = 1
    beam_args: tuple[str, ...] = ()
    show_progress: bool = True


def write_dataset(
    listing: SourceListing,
    output_dir: str,
    *,
    name: str,
    source: Mapping[str, str | int | float],
    settings: Settings,
    shard_mib: float,
    fail_on_bad: bool,
    runner: Runner,
) -> Manifest:
    """Checks, shards and describes every example of a listing.

    Which example goes into which shard follows from the names and sizes alone, so the
    same listing and settings give byte-identical files on every runner. What is there
    already, of an interrupted conversion or of a finished one that has lost a shard, is
    kept if its inputs, read again, and its own SHA-256 are those of its account. The
    manifest is written last.

    Args:
      listing: what to convert.
      output_dir: a folder within output_folder.claim.
      name: the first part of the shards' names.
      source: goes into the manifest: how the listing came about.
      settings: what decides over a record's bytes.
      shard_mib: the size to come near to, in MiB.
      fail_on_bad: stop at an input that cannot be converted.
      runner: who writes.

    Returns:
      The manifest as written.

    Raises:
      UserError: the folder holds another finished data set, or no example is convertible.
      FaultFound: the folder cannot be written; or an input is bad and fail_on_bad is set.
    """
    if fail_on_bad and listing.rejected:
        first = listing.rejected[0]
        raise FaultFound(f"--on_bad=fail: {first.name}: {first.reason}")
    by_split: dict[str, list[SourceExample]] = {}
    for example in sorted(listing.examples, key=lambda e: hash_order(e.name)):
        by_split.setdefault(example.split, []).append(example)
    shard_bytes = shard_mib * (1 << 20) / _shrinkage(by_split, settings, runner)
    if (epath.Path(output_dir) / manifest.FILE_NAME).exists():
        finished = manifest.read_manifest(output_dir)
        _check_account(finished, listing, source, output_dir)
        _mend(finished, by_split, name, shard_bytes, settings, output_dir, runner)
    else:
        splits, lost = _write_splits(
            by_split, name, shard_bytes, settings, output_dir, fail_on_bad, runner
        )
        if not splits:
            first = (list(listing.rejected) + lost)[0]
            raise UserError(
                f"not one of {len(listing.examples)} images could be converted; the first: "
                f"{first.name}: {first.reason}"
            )
        counts = {v: n for split in splits.values() for v, n in split.pixels_per_label.items()}
        finished = Manifest(
            name=name,
            source=dict(source),
            raw_labels=masks.merge_names(listing.masks, counts),
            splits=splits,
            unplaced=(*listing.rejected, *lost),
            colours={v: colour for colour, v in sorted(listing.masks.values_of_colours.items())},
        )
        ours = {shard.name for split in splits.values() for shard in split.shards}
        shard_files.remove_others(output_dir, ours)
        write_tfds_metadata(output_dir, finished, listing.class_names)
        manifest.write_manifest(output_dir, finished)
    if not all((epath.Path(output_dir) / file).exists() for file in FILE_NAMES):
        write_tfds_metadata(output_dir, finished, listing.class_names)
    return finished


def _shrinkage(
    by_split: Mapping[str, Sequence[SourceExample]], settings: Settings, runner: Runner
) -> float:
    """Stored bytes over source bytes, from the first examples; 1 where none is resized."""
    if not settings.short_side_px or not by_split:
        return 1.0
    sample = next(iter(by_split.values()))[:_SAMPLED]
    # Not in this process: TensorFlow's threads would keep it from forking others.
    stored = processes.map_in_processes(
        functools.partial(_stored_bytes, settings),
        sample,
        [1] * len(sample),
        workers=runner.workers,
        what="sample",
        show_progress=False,
    )
    sources = [example.pair.bytes for example, size in zip(sample, stored, strict=True) if size]
    return sum(stored) / sum(sources) if sum(sources) else 1.0


def _stored_bytes(settings: Settings, example: SourceExample, advance: shards.Advance) -> int:
    size = len(prepare_example(example, settings).serialized)
    advance()
    return size


def _plan(
    by_split: Mapping[str, Sequence[SourceExample]], name: str, shard_bytes: float
) -> dict[str, list[ShardTask]]:
    """Each split's shards."""
    tasks = {}
    for split in (split for split in SPLITS if by_split.get(split)):
        sizes = [example.pair.bytes for example in by_split[split]]
        parts = shard_files.plan_shards(by_split[split], sizes, shard_bytes)
        tasks[split] = [
            ShardTask(shard_files.shard_name(name, split, index, len(parts)), tuple(part))
            for index, part in enumerate(parts)
        ]
    return tasks


def _write_splits(
    by_split: Mapping[str, Sequence[SourceExample]],
    name: str,
    shard_bytes: float,
    settings: Settings,
    output_dir: str,
    fail_on_bad: bool,
    runner: Runner,
) -> tuple[dict[str, Split], list[Finding]]:
    """Writes all shards, none of them empty; also gives the inputs that found no shard."""
    planned = _plan(by_split, name, shard_bytes)
    splits: dict[str, Split] = {}
    lost: list[Finding] = []
    while planned:
        tasks = [task for of_split in planned.values() for task in of_split]
        accounts = _write_missing(tasks, settings, output_dir, fail_on_bad, runner)
        again = {}
        for split, of_split in planned.items():
            written = [accounts[task.name] for task in of_split]
            if all(shard.records for shard in written):
                splits[split] = Split(tuple(written))
                continue
            # A shard whose examples are all bad would be empty: plan again without them.
            rejected = [finding for shard in written for finding in shard.rejected]
            lost += rejected
            again[split] = _good(of_split, written, output_dir)
        planned = _plan(again, name, shard_bytes)
    return {split: splits[split] for split in SPLITS if split in splits}, lost


def _good(
    tasks: Sequence[ShardTask], written: Sequence[Shard], output_dir: str
) -> list[SourceExample]:
    """The examples that were not rejected; their shards are taken away."""
    examples = []
    for task, shard in zip(tasks, written, strict=True):
        bad = {finding.name for finding in shard.rejected}
        examples += [e for e in task.examples if shown(e.name) not in bad]
        (epath.Path(output_dir) / shard.name).unlink(missing_ok=True)
    return examples


def _write_missing(
    tasks: Sequence[ShardTask],
    settings: Settings,
    output_dir: str,
    fail_on_bad: bool,
    runner: Runner,
) -> dict[str, Shard]:
    """Keeps the shards that can be trusted and writes the others: name -> account."""
    known = {task.name: shard_files.read_account(output_dir, task.name) for task in tasks}
    kept = _unchanged(tasks, known, settings, output_dir, runner)
    missing = [task for task in tasks if task.name not in kept]
    if runner.kind == "beam":
        written = beam_runner.write_on_beam(missing, settings, output_dir, runner.beam_args)
    else:
        written = local_runner.write_locally(
            missing,
            settings,
            output_dir,
            fail_on_bad=fail_on_bad,
            workers=runner.workers,
            show_progress=runner.show_progress,
        )
    accounts = {shard.name: shard for shard in [*kept.values(), *written]}
    if fail_on_bad:
        for task in tasks:
            for finding in accounts[task.name].rejected:
                raise FaultFound(f"--on_bad=fail: {finding.name}: {finding.reason}")
    return accounts


def _unchanged(
    tasks: Sequence[ShardTask],
    known: Mapping[str, Shard | None],
    settings: Settings,
    output_dir: str,
    runner: Runner,
) -> dict[str, Shard]:
    """The accounts whose shard is there, whole, and whose inputs are still the same."""
    candidates = [
        task
        for task in tasks
        if (account := known.get(task.name)) and shard_files.is_written(account, output_dir)
    ]
    same = _same_inputs(candidates, known, settings, runner)
    return {task.name: known[task.name] for task in candidates if task.name in same}


def _same_inputs(
    tasks: Sequence[ShardTask],
    known: Mapping[str, Shard],
    settings: Settings,
    runner: Runner,
) -> Collection[str]:
    """Names of the shards whose inputs, read again, are those of their account."""
    if not tasks:
        return ()
    digests = processes.map_in_processes(
        functools.partial(shards.digest_of_inputs, settings),
        tasks,
        [len(task.examples) for task in tasks],
        workers=runner.workers,
        what="compare",
        show_progress=runner.show_progress,
    )
    return {
        task.name
        for task, inputs in zip(tasks, digests, strict=True)
        if inputs == known[task.name].inputs
    }


def _check_account(
    finished: Manifest,
    listing: SourceListing,
    source: Mapping[str, str | int | float],
    output_dir: str,
) -> None:
    """Raises UserError if flags, class names or what pairs with nothing have changed."""
    names = listing.masks.names
    if (
        finished.source != source
        or (names is not None and dict(names) != finished.raw_labels)
        or finished.unplaced[: len(listing.rejected)] != listing.rejected
    ):
        raise _other_inputs(output_dir)


def _other_inputs(output_dir: str) -> UserError:
    return UserError(
        f"--output_dir: {output_dir} is a finished data set, made from other inputs or with "
        "other flags; name a new folder, or delete it first"
    )


def _mend(
    finished: Manifest,
    by_split: Mapping[str, Sequence[SourceExample]],
    name: str,
    shard_bytes: float,
    settings: Settings,
    output_dir: str,
    runner: Runner,
) -> None:
    """Writes the shards again that a finished data set has lost; all else must agree."""
    known = {shard.name: shard for split in finished.splits.values() for shard in split.shards}
    # The last plan of a conversion is the one that left out what had filled a shard.
    bad = {finding.name for finding in finished.unplaced}
    good = {s: [e for e in of if shown(e.name) not in bad] for s, of in by_split.items()}
    for examples in (by_split, good):
        tasks = [t for of in _plan(examples, name, shard_bytes).values() for t in of]
        if {task.name for task in tasks} == known.keys():
            break
    is_same = {task.name for task in tasks} == known.keys()
    if not is_same or len(_same_inputs(tasks, known, settings, runner)) < len(tasks):
        raise _other_inputs(output_dir)
    lost = [task for task in tasks if not shard_files.is_written(known[task.name], output_dir)]
    for task in lost:
        (epath.Path(output_dir) / task.name).unlink(missing_ok=True)
    _write_missing(lost, settings, output_dir, False, runner)
    for task in lost:
        if not shard_files.is_written(known[task.name], output_dir):
            raise UserError(
                f"--output_dir: {output_dir}: {task.name}, written again, differs from the "
                "manifest; name a new folder to convert anew"
            )
