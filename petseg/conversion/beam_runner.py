"""The beam runner: lists, sorts and writes on Apache Beam, for sets that outgrow one machine.

The steps use nothing of Beam but Create, ParDo, GroupByKey and Reshuffle, which every runner has,
and meet in files: what a later step needs is small, or is read from the plan by each worker.
"""

import contextlib
import dataclasses
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence

from etils import epath

from petseg.conversion import plan, shards, spill
from petseg.conversion.plan import Hashed, Plan, ShardTask
from petseg.conversion.prepare import RecordOptions
from petseg.conversion.sources.base import SourceListing
from petseg.errors import FaultFound, UserError

_LISTING = "listing.pickle"


def plan_on_beam(
    list_source: Callable[[], SourceListing], folder: str, beam_args: Sequence[str]
) -> tuple[SourceListing, Plan]:
    """Lists a source on one worker of Beam, and sorts its examples on all.

    Args:
      list_source: Lists the source; it must be picklable.
      folder: An empty folder for the plan, that every worker can write to.
      beam_args: Options of Beam's own.

    Returns:
      The listing without its examples, and the plan that holds these.

    Raises:
      UserError: Beam is not installed, or the source has nothing to convert.
      FaultFound: The source cannot be read.
    """
    beam = _import_beam()
    with _pipeline(beam_args) as pipeline:
        _ = (
            pipeline
            | "source" >> beam.Create([list_source])
            | "list" >> beam.FlatMap(_list, folder)
            | "group" >> beam.GroupByKey()
            | "sort" >> beam.Map(_write_bucket, folder)
        )
    listing = pickle.loads((epath.Path(folder) / _LISTING).read_bytes())
    if isinstance(listing, Exception):
        raise listing
    return listing, Plan(folder)


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
    if not tasks:
        return
    beam = _import_beam()
    with _pipeline(beam_args) as pipeline:
        _ = (
            pipeline
            | "plan" >> beam.Create(tasks)
            | "spread" >> beam.Reshuffle()
            | "write" >> beam.Map(_write_one, options, output_dir, fail_on_bad)
        )


def _import_beam() -> object:
    try:
        import apache_beam
    except ImportError as error:
        raise UserError(
            "--runner=beam needs Apache Beam: pip install -c constraints.txt -e '.[beam]'"
        ) from error
    return apache_beam


@contextlib.contextmanager
def _pipeline(beam_args: Sequence[str]) -> Iterator[object]:
    """Runs a pipeline; a user's fault in a worker is raised without what Beam wraps around it."""
    from apache_beam import Pipeline
    from apache_beam.options.pipeline_options import PipelineOptions

    try:
        pipeline = Pipeline(options=PipelineOptions(list(beam_args)))
    except (ValueError, ImportError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--beam_args={','.join(beam_args)}: {reason}") from error
    try:
        with pipeline:
            yield pipeline
    except Exception as error:
        for kind in (FaultFound, UserError):
            _, is_wrapped, reason = str(error).rpartition(f"{kind.__name__}: ")
            if is_wrapped or isinstance(error, kind):
                # Some runners add "[while running 'write']".
                raise kind(reason.splitlines()[0].partition(" [while running ")[0]) from error
        raise


def _list(list_source: Callable[[], SourceListing], folder: str) -> Iterator[tuple[int, Hashed]]:
    found: SourceListing | Exception
    try:
        listing = list_source()
        for example in listing.examples:
            name_hash = spill.hash_of(example.name)
            yield spill.bucket_of(name_hash), (name_hash, example)
        found = dataclasses.replace(listing, examples=(), rejected=tuple(listing.rejected))
    except (UserError, FaultFound) as error:
        found = error  # raised in the worker, it would be logged with its traceback
    (epath.Path(folder) / _LISTING).write_bytes(pickle.dumps(found))


def _write_bucket(bucket: tuple[int, Iterable[Hashed]], folder: str) -> None:
    plan.write_bucket(folder, *bucket)


def _write_one(task: ShardTask, options: RecordOptions, output_dir: str, fail_on_bad: bool) -> None:
    """Runs in Beam's workers; the shard's metadata in the work folder is the result."""
    shards.keep_or_write_shard(task, options, output_dir, fail_on_bad, lambda: None)
