"""Work spread over the processes of this machine."""

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

from petseg.errors import FaultFound

T = TypeVar("T")
R = TypeVar("R")
Advance = Callable[[], None]

_POLL_S = 0.2
_COUNTED_AT_ONCE = 16  # locks between processes cost as much as a small picture
tqdm.monitor_interval = 0  # its monitor would be a thread, which a fork would lose

# Set in a worker process when it starts.
_worker: "_Worker | None" = None


class _Stopped(Exception):
    """Another shard has failed, a signal came, or the parent is gone."""


class Workers:
    """Calls functions on several processes, or in this one if there is one worker.

    Processes, because a third of the work on a picture holds Python's lock. They are
    forked where that is safe, which costs neither time nor memory, and spawned elsewhere.
    They end with this process, however it ends.
    """

    def __init__(self, pool: concurrent.futures.Executor | None, shared: "_Worker", bar: tqdm):
        """`open_workers` makes it."""
        self._pool, self._shared, self._bar = pool, shared, bar

    def submit(self, function: Callable[..., R], *arguments: object) -> concurrent.futures.Future:
        """Has function(*arguments, advance) called; it calls advance after each picture."""
        if self._pool:
            return self._pool.submit(_call, function, *arguments)
        future: concurrent.futures.Future = concurrent.futures.Future()
        future.set_result(function(*arguments, self._bar.update))
        return future

    def first_done(self, futures: set[concurrent.futures.Future]) -> set[concurrent.futures.Future]:
        """Waits until at least one has its result; raises what one of them raised."""
        done: set[concurrent.futures.Future] = set()
        while not done:
            done, _ = concurrent.futures.wait(futures, _POLL_S, concurrent.futures.FIRST_COMPLETED)
            if self._pool:
                self._bar.update(self._shared.done.value - self._bar.n)
        for future in done:
            future.result()
        return done


@contextlib.contextmanager
def open_workers(
    workers: int, *, what: str, pictures: int, show_progress: bool
) -> Iterator[Workers]:
    """Workers for one piece of work.

    Args:
      workers: how many processes; one works in this process.
      what: the progress bar's title.
      pictures: how many there are, for the bar.
      show_progress: draw a bar on standard error.

    Raises:
      FaultFound: a worker was killed.
    """
    if workers <= 1:
        with _bar(what, pictures, show_progress) as bar:
            yield Workers(None, None, bar)
        return
    context = multiprocessing.get_context("fork" if _fork_is_safe() else "spawn")
    shared = _Worker(context.Event(), context.Value("q", 0), os.getpid())
    gc.freeze()  # else a collection in a forked process would copy every page it shares
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, context, initializer=_start_worker, initargs=(shared,)
    )
    try:
        # The processes are there before the bar, whose threads a fork would lose.
        pool.submit(os.getpid).result()
        with _bar(what, pictures, show_progress) as bar:
            yield Workers(pool, shared, bar)
            bar.update(bar.total - bar.n)
    except concurrent.futures.process.BrokenProcessPool as error:
        raise FaultFound(
            "a worker process was killed, perhaps for want of memory; run again to go on, with "
            f"fewer than --workers={workers}"
        ) from error
    finally:
        shared.stop.set()
        pool.shutdown(cancel_futures=True)
        gc.unfreeze()


def map_in_processes(
    function: Callable[[T, Advance], R],
    tasks: Sequence[T],
    sizes: Sequence[int],
    *,
    workers: int,
    what: str,
    show_progress: bool,
) -> list[R]:
    """Calls a function for each task and gives the results in order.

    Args:
      function: called with a task and a function to call after each of its pictures; can
        be pickled.
      tasks: what to do.
      sizes: how many pictures each has.
      workers: how many processes.
      what: the progress bar's title.
      show_progress: draw a bar on standard error.

    Raises:
      FaultFound: a worker was killed; also whatever the function raises.
    """
    with open_workers(
        min(workers, len(tasks)), what=what, pictures=sum(sizes), show_progress=show_progress
    ) as pool:
        # The largest first, so that none is left for last.
        order = sorted(range(len(tasks)), key=lambda index: -sizes[index])
        futures = {index: pool.submit(function, tasks[index]) for index in order}
        waiting = set(futures.values())
        while waiting:
            waiting -= pool.first_done(waiting)
        return [futures[index].result() for index in range(len(tasks))]


class _Worker:
    """What a worker process shares with its parent."""

    def __init__(self, stop: object, done: object, parent: int):
        self.stop = stop  # an event
        self.done = done  # how many pictures are done, in all processes
        self.parent = parent
        self._uncounted = 0

    def advance(self) -> None:
        """Counts a picture; ends the task if there is no use for it any more."""
        self._uncounted += 1
        if self._uncounted < _COUNTED_AT_ONCE:
            return
        with self.done.get_lock():
            self.done.value += self._uncounted
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


def _call(function: Callable[..., R], *arguments: object) -> R:
    return function(*arguments, _worker.advance)


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
def _bar(what: str, total: int, show: bool) -> Iterator[tqdm]:
    with tqdm(
        total=total,
        unit="image",
        desc=what,
        mininterval=0.1 if sys.stderr.isatty() else 10,
        disable=not show,
    ) as bar:
        yield bar
