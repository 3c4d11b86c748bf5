"""Who writes the shards: processes of this machine, or Apache Beam."""

import concurrent.futures
import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import tensorflow as tf
from tqdm import tqdm

from petseg.conversion import shards
from petseg.conversion.prepare import Settings
from petseg.conversion.shards import ShardTask
from petseg.errors import UserError
from petseg.manifest import Shard

R = TypeVar("R")
Advance = Callable[[], None]

_POLL_S = 0.2
_COUNTED_AT_ONCE = 16  # locks between processes cost as much as a small picture
tqdm.monitor_interval = 0  # its monitor would be a thread, which a fork would lose

# Set in a worker process when it starts.
_worker: "_Worker | None" = None


class _Stopped(Exception):
    """Another shard has failed, a signal came, or the parent is gone."""


def map_locally(
    function: Callable[[ShardTask, Advance], R],
    tasks: Sequence[ShardTask],
    *,
    workers: int,
    what: str,
    show_progress: bool,
) -> list[R]:
    """Calls a function for each task, on several processes, and gives the results in order.

    Processes, because a third of an example's work holds Python's lock. They are forked
    where that is safe, which costs neither time nor memory, and spawned elsewhere. They
    end with this process, however it ends.

    Args:
      function: called with a task and a function to call after each of its examples;
        can be pickled.
      tasks: what to do.
      workers: the most processes; one works in this process.
      what: the progress bar's title.
      show_progress: draw a bar on standard error.

    Raises:
      UserError: a worker was killed; also whatever the function raises.
    """
    if min(workers, len(tasks)) <= 1:
        with _bar(what, tasks, show_progress) as bar:
            return [function(task, bar.update) for task in tasks]
    # The largest first, so that none is left for last.
    order = sorted(range(len(tasks)), key=lambda i: -sum(e.pair.bytes for e in tasks[i].examples))
    context = multiprocessing.get_context("fork" if _fork_is_safe() else "spawn")
    worker = _Worker(context.Event(), context.Value("q", 0), os.getpid())
    gc.freeze()  # else a collection in a forked process would copy every page it shares
    pool = concurrent.futures.ProcessPoolExecutor(
        min(workers, len(tasks)), context, initializer=_start_worker, initargs=(worker,)
    )
    try:
        futures = {index: pool.submit(_call, function, tasks[index]) for index in order}
        with _bar(what, tasks, show_progress) as bar:
            waiting = set(futures.values())
            while waiting:
                done, waiting = concurrent.futures.wait(
                    waiting, _POLL_S, concurrent.futures.FIRST_COMPLETED
                )
                bar.update(worker.examples.value - bar.n)
                for future in done:
                    future.result()
            bar.update(bar.total - bar.n)
        return [futures[index].result() for index in range(len(tasks))]
    except concurrent.futures.process.BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed, perhaps for want of memory; run again to go on, with "
            f"fewer than --workers={workers}"
        ) from error
    finally:
        worker.stop.set()
        pool.shutdown(cancel_futures=True)
        gc.unfreeze()


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
      UserError: Beam is not installed, or a shard cannot be written.
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
        if "UserError: " not in str(error):
            raise
        raise UserError(str(error).rsplit("UserError: ", maxsplit=1)[1].splitlines()[0]) from error
    accounts = [shards.read_account(output_dir, task.name) for task in tasks]
    if lost := [task.name for task, found in zip(tasks, accounts, strict=True) if not found]:
        raise UserError(
            f"--runner=beam: {output_dir} lacks {len(lost)} shards, as {lost[0]}: do all of "
            "Beam's workers write to that folder?"
        )
    return accounts


def _write_one(task: ShardTask, settings: Settings, output_dir: str) -> None:
    """What Beam's workers call; the shard's account is what it leaves."""
    shards.write_shard(task, lambda: None, settings, output_dir, fail_on_bad=False)


class _Worker:
    """What a worker process shares with its parent."""

    def __init__(self, stop: object, examples: object, parent: int):
        self.stop = stop  # an event
        self.examples = examples  # how many are done, in all processes
        self.parent = parent
        self._uncounted = 0

    def advance(self) -> None:
        """Counts an example; ends the task if there is no use for it any more."""
        self._uncounted += 1
        if self._uncounted < _COUNTED_AT_ONCE:
            return
        with self.examples.get_lock():
            self.examples.value += self._uncounted
        self._uncounted = 0
        if self.stop.is_set():
            raise _Stopped


def _start_worker(worker: _Worker) -> None:
    global _worker  # noqa: PLW0603  (a process pool has no other place for it)
    _worker = worker
    # The parent hears of signals, and tells.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(worker.parent,), daemon=True).start()
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _end_with_parent(parent: int) -> None:
    """An idle worker would wait for its killed parent for ever."""
    while os.getppid() == parent:
        threading.Event().wait(_POLL_S)
    os._exit(1)


def _call(function: Callable[[ShardTask, Advance], R], task: ShardTask) -> R:
    return function(task, _worker.advance)


def _fork_is_safe() -> bool:
    """Whether this process has no threads, TensorFlow's included, that a fork would lose."""
    if sys.platform != "linux" or threading.active_count() > 1:
        return False
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    try:
        # Refused once TensorFlow has started its threads.
        tf.config.threading.set_intra_op_parallelism_threads(threads + 1)
    except RuntimeError:
        return False
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    return True


@contextlib.contextmanager
def _bar(what: str, tasks: Sequence[ShardTask], show: bool) -> Iterator[tqdm]:
    with tqdm(
        total=sum(len(task.examples) for task in tasks),
        unit="image",
        desc=what,
        mininterval=0.1 if sys.stderr.isatty() else 10,
        disable=not show,
    ) as bar:
        yield bar
