"""Writes the shards of a data set on the runner of choice, or keeps those that are right."""

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence

from petseg import processes
from petseg.conversion import beam_runner, local_runner, shards
from petseg.conversion.prepare import RecordOptions
from petseg.conversion.shards import ShardTask
from petseg.data import shard_files
from petseg.data.manifest import Shard
from petseg.errors import FaultFound

RUNNERS = ("local", "beam")


@dataclasses.dataclass(frozen=True)
class RunnerOptions:
    """What writes the shards.

    Attributes:
      kind: One of RUNNERS.
      workers: Number of processes of the local runner.
      beam_args: Options of Beam's own.
      show_progress: Draw progress bars on standard error.
    """

    kind: str = "local"
    workers: int = 1
    beam_args: tuple[str, ...] = ()
    show_progress: bool = True


def write_shards(
    tasks: Sequence[ShardTask],
    record_options: RecordOptions,
    output_dir: str,
    fail_on_bad: bool,
    runner: RunnerOptions,
) -> dict[str, Shard]:
    """Writes shards, except those that an interrupted conversion left and that are right.

    A shard is kept if it agrees with its metadata in the work folder and its inputs, read
    again, are the ones that it was made of.

    Args:
      tasks: The shards.
      record_options: What decides over the records' bytes.
      output_dir: The data set's folder, within output_folder.claim.
      fail_on_bad: Raise for an input that cannot be converted.
      runner: What writes the shards.

    Returns:
      Name -> metadata for every shard, kept or written.

    Raises:
      FaultFound: A shard cannot be written; or an input is bad and fail_on_bad is set.
    """
    known = {task.name: shard_files.read_metadata(output_dir, task.name) for task in tasks}
    kept = _unchanged(tasks, known, record_options, output_dir, runner)
    missing = [task for task in tasks if task.name not in kept]
    if runner.kind == "beam":
        written = beam_runner.write_on_beam(missing, record_options, output_dir, runner.beam_args)
    else:
        written = local_runner.write_locally(
            missing,
            record_options,
            output_dir,
            fail_on_bad=fail_on_bad,
            workers=runner.workers,
            show_progress=runner.show_progress,
        )
    by_name = {shard.name: shard for shard in [*kept.values(), *written]}
    if fail_on_bad:
        for task in tasks:
            for finding in by_name[task.name].rejected:
                raise FaultFound(f"--on_bad=fail: {finding.name}: {finding.reason}")
    return by_name


def _unchanged(
    tasks: Sequence[ShardTask],
    known: Mapping[str, Shard | None],
    record_options: RecordOptions,
    output_dir: str,
    runner: RunnerOptions,
) -> dict[str, Shard]:
    """Returns the metadata of each shard that is complete and whose inputs are unchanged."""
    candidates = [
        task
        for task in tasks
        if (shard := known.get(task.name)) and shard_files.is_written(shard, output_dir)
    ]
    unchanged = with_unchanged_inputs(candidates, known, record_options, runner)
    return {task.name: known[task.name] for task in candidates if task.name in unchanged}


def with_unchanged_inputs(
    tasks: Sequence[ShardTask],
    known: Mapping[str, Shard],
    record_options: RecordOptions,
    runner: RunnerOptions,
) -> Collection[str]:
    """Reads all inputs again and returns the names of the shards that were made of them.

    Args:
      tasks: The shards.
      known: Name -> metadata for each of them.
      record_options: What decides over the records' bytes.
      runner: How many processes read.
    """
    if not tasks:
        return ()
    digests = processes.map_in_processes(
        functools.partial(shards.digest_of_inputs, record_options),
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
