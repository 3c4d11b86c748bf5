"""The beam runner: writes shards on Apache Beam, for data sets that outgrow one machine."""

from collections.abc import Sequence

from petseg.conversion import shards
from petseg.conversion.plan import ShardTask
from petseg.conversion.prepare import RecordOptions
from petseg.errors import FaultFound, UserError


def write_on_beam(
    tasks: Sequence[ShardTask],
    options: RecordOptions,
    output_dir: str,
    fail_on_bad: bool,
    beam_args: Sequence[str],
) -> None:
    """Writes shards on Apache Beam; each task is one element.

    Args:
      tasks: The shards.
      options: What decides over the records' bytes.
      output_dir: A folder that every worker can write to.
      fail_on_bad: Stop at an example that cannot be converted.
      beam_args: Options of Beam's own, such as ['--runner=FlinkRunner'].

    Raises:
      UserError: Beam is not installed.
      FaultFound: A shard cannot be written; or an input is bad and fail_on_bad is set.
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
                | "write" >> beam.Map(_write_one, options, output_dir, fail_on_bad)
            )
    except Exception as error:
        # Beam wraps what a worker raised; a user's fault is reported without the wrapping.
        if "FaultFound: " not in str(error):
            raise
        reason = str(error).rsplit("FaultFound: ", maxsplit=1)[1].splitlines()[0]
        raise FaultFound(reason) from error


def _write_one(task: ShardTask, options: RecordOptions, output_dir: str, fail_on_bad: bool) -> None:
    """Runs in Beam's workers; the shard's metadata in the work folder is the result."""
    shards.keep_or_write_shard(task, options, output_dir, fail_on_bad, lambda: None)
