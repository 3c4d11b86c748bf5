"""Writes shards on Apache Beam, for data sets that outgrow one machine."""

from collections.abc import Sequence

from petseg.conversion import shards
from petseg.conversion.prepare import Settings
from petseg.conversion.shards import ShardTask
from petseg.data import shard_files
from petseg.data.manifest import Shard
from petseg.errors import FaultFound, UserError


def write_on_beam(
    tasks: Sequence[ShardTask], settings: Settings, output_dir: str, beam_args: Sequence[str]
) -> list[Shard]:
    """Writes shards on Apache Beam: a task is one element, wherever Beam runs it.

    Args:
      tasks: the shards.
      settings: what decides over the records.
      output_dir: a folder that every worker can write to.
      beam_args: Beam's own options, as in ['--runner=FlinkRunner'].

    Raises:
      UserError: Beam is not installed, or its workers write elsewhere.
      FaultFound: a shard cannot be written.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise UserError(
            "--runner=beam needs Apache Beam: pip install -c constraints.txt -e '.[beam]'"
        ) from error
    try:
        with beam.Pipeline(options=PipelineOptions(list(beam_args))) as pipeline:
            _ = (
                pipeline
                | "plan" >> beam.Create(tasks)
                | "spread" >> beam.Reshuffle()
                | "write" >> beam.Map(_write_one, settings, output_dir)
            )
    except Exception as error:
        # Beam wraps what a worker raised; what was the user's is told in its own words.
        if "FaultFound: " not in str(error):
            raise
        reason = str(error).rsplit("FaultFound: ", maxsplit=1)[1].splitlines()[0]
        raise FaultFound(reason) from error
    accounts = [shard_files.read_account(output_dir, task.name) for task in tasks]
    if lost := [task.name for task, found in zip(tasks, accounts, strict=True) if not found]:
        raise UserError(
            f"--runner=beam: {output_dir} lacks {len(lost)} shards, as {lost[0]}: do all of "
            "Beam's workers write to that folder?"
        )
    return accounts


def _write_one(task: ShardTask, settings: Settings, output_dir: str) -> None:
    """What Beam's workers call; the shard's account is what it leaves."""
    shards.write_shard(task, settings, output_dir, False, lambda: None)
