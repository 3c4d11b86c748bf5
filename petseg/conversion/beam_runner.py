"""The beam runner: writes shards on Apache Beam, for data sets that outgrow one machine."""

from collections.abc import Sequence

from petseg.conversion import shards
from petseg.conversion.prepare import RecordOptions
from petseg.conversion.shards import ShardTask
from petseg.data import shard_files
from petseg.data.manifest import Shard
from petseg.errors import FaultFound, UserError


def write_on_beam(
    tasks: Sequence[ShardTask], options: RecordOptions, output_dir: str, beam_args: Sequence[str]
) -> list[Shard]:
    """Writes shards on Apache Beam; each task is one element.

    Args:
      tasks: The shards.
      options: What decides over the records' bytes.
      output_dir: A folder that every worker can write to.
      beam_args: Options of Beam's own, such as ['--runner=FlinkRunner'].

    Returns:
      The metadata of each shard.

    Raises:
      UserError: Beam is not installed, or its workers write to another file system.
      FaultFound: A shard cannot be written.
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
                | "write" >> beam.Map(_write_one, options, output_dir)
            )
    except Exception as error:
        # Beam wraps what a worker raised; a user's fault is reported without the wrapping.
        if "FaultFound: " not in str(error):
            raise
        reason = str(error).rsplit("FaultFound: ", maxsplit=1)[1].splitlines()[0]
        raise FaultFound(reason) from error
    written = [shard_files.read_metadata(output_dir, task.name) for task in tasks]
    if lost := [task.name for task, shard in zip(tasks, written, strict=True) if not shard]:
        raise UserError(
            f"--runner=beam: {output_dir} lacks {len(lost)} shards, such as {lost[0]}: do all "
            "of Beam's workers write to that folder?"
        )
    return written


def _write_one(task: ShardTask, options: RecordOptions, output_dir: str) -> None:
    """Runs in Beam's workers; the shard's metadata in the work folder is the result."""
    shards.write_shard(task, options, output_dir, False, lambda: None)
