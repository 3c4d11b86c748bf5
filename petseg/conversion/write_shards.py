"""Writes the shards of a data set on the runner of choice, or keeps those that are right."""

import dataclasses
from collections.abc import Sequence

from petseg.conversion import beam_runner, local_runner
from petseg.conversion.plan import ShardTask
from petseg.conversion.prepare import RecordOptions
from petseg.data import shard_files


@dataclasses.dataclass(frozen=True)
class RunnerOptions:
    """What writes the shards.

    Attributes:
      kind: One of choices.RUNNERS.
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
) -> None:
    """Writes shards, except those that an interrupted conversion left and that are right.

    Each shard's metadata are in the work folder then; see shards.keep_or_write_shard.

    Args:
      tasks: The shards.
      record_options: What decides over the records' bytes.
      output_dir: The data set's folder, within output_folder.claim.
      fail_on_bad: Raise for an input that cannot be converted.
      runner: What writes the shards.

    Raises:
      FaultFound: A shard cannot be written; or an input is bad and fail_on_bad is set.
    """
    if runner.kind == "beam":
        beam_runner.write_on_beam(tasks, record_options, output_dir, fail_on_bad, runner.beam_args)
        return
    local_runner.write_locally(
        tasks,
        record_options,
        output_dir,
        begun=shard_files.begun(output_dir),
        fail_on_bad=fail_on_bad,
        workers=runner.workers,
        show_progress=runner.show_progress,
    )
