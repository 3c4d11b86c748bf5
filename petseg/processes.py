"""Runs functions on several processes of this machine."""

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

from petseg.errors import STOPPING, FaultFound
from petseg.progress import Progress

T = TypeVar("T")
R = TypeVar("R")
Advance = Callable[[], None]

_POLL_S = 0.2
_COUNTED_AT_ONCE = 16  # a lock between processes costs as much as a small picture

# Set in a worker process when it starts.
_worker: "_Worker | None" = None


class _Stopped(Exception):
    """Raised in a worker when another task has failed or a signal came."""


class Workers:
    """Calls functions on several processes, or in this one if there is one worker.

    These are processes because a third of the work on a picture holds Python's global lock.
    They are forked where that is safe, which costs neither time nor memory, and spawned
    elsewhere. They end with this process, however it ends.
    """

    def __init__(
        self, pool: concurrent.futures.Executor | None, shared: "_Worker", progress: Progress
    ):
        """See open_workers."""
        self._pool, self._shared, self._progress = pool, shared, progress

    def submit(self, function: Callable[..., R], *arguments: object) -> concurrent.futures.Future:
        """Schedules function(*arguments, advance), which calls advance after each picture."""
        if self._pool:
            return self._pool.submit(_call, function, *arguments)
        future: concurrent.futures.Future = concurrent.futures.Future()
        future.set_result(function(*arguments, self._progress.advance))
        return future

    def first_done(self, futures: set[concurrent.futures.Future]) -> set[concurrent.futures.Future]:
        """Waits until at least one future has its result; raises what one of them raised."""
        done: set[concurrent.futures.Future] = set()
        while not done:
            done, _ = concurrent.futures.wait(futures, _POLL_S, concurrent.futures.FIRST_COMPLETED)
            if self._pool:
                self._progress.advance(self._shared.done.value - self._progress.done)
        for future in done:
            future.result()
        return done


@contextlib.contextmanager
def open_workers(
    workers: int, *, what: str, pictures: int, show_progress: bool
) -> Iterator[Workers]:
    """Starts workers, and stops them at the end of the context.

    Args:
      workers: Number of processes; with one, the functions run in this process.
      what: Title of the progress bar.
      pictures: Number of pictures, for the progress bar.
      show_progress: Draw a progress bar on standard error.

    Raises:
      FaultFound: A worker was killed, or this machine has no memory to share between processes.
    """
    if workers <= 1:
        with _progress(what, pictures, show_progress) as progress:
            yield Workers(None, None, progress)
        return
    context = multiprocessing.get_context("fork" if can_fork() else "spawn")
    shared = _share(context, workers)
    gc.freeze()  # or a garbage collection in a forked process would copy all shared pages
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, context, initializer=_start_worker, initargs=(shared,)
    )
    try:
        # The processes start before the progress bar, whose threads a fork would lose.
        pool.submit(os.getpid).result()
        with _progress(what, pictures, show_progress) as progress:
            yield Workers(pool, shared, progress)
            progress.advance(progress.total - progress.done)
    except concurrent.futures.process.BrokenProcessPool as error:
        raise FaultFound(
            "a worker process was killed, perhaps for lack of memory; run again to resume, with "
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
    """Calls a function for each task and returns the results in order.

    Args:
      function: Called with a task and a function to call after each of its pictures; it
        must be picklable.
      tasks: The tasks.
      sizes: The number of pictures of each task.
      workers: Number of processes.
      what: Title of the progress bar.
      show_progress: Draw a progress bar on standard error.

    Raises:
      FaultFound: A worker was killed. Exceptions of the function are raised as well.
    """
    with open_workers(
        min(workers, len(tasks)), what=what, pictures=sum(sizes), show_progress=show_progress
    ) as pool:
        # The largest first, so that no worker starts a large one at the end.
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
        self.done = done  # number of pictures, over all processes
        self.parent = parent
        self._uncounted = 0

    def advance(self) -> None:
        """Counts a picture; raises _Stopped if the task is no longer needed."""
        self._uncounted += 1
        if self._uncounted < _COUNTED_AT_ONCE:
            return
        with self.done.get_lock():
            self.done.value += self._uncounted
        self._uncounted = 0
        if self.stop.is_set():
            raise _Stopped


def _share(context: multiprocessing.context.BaseContext, workers: int) -> _Worker:
    try:
        return _Worker(context.Event(), context.Value("q", 0), os.getpid())
    except (OSError, ImportError) as error:  # as in small virtual machines, without /dev/shm
        reason = getattr(error, "strerror", None) or error
        raise FaultFound(
            f"--workers={workers}: this machine has no memory to share between processes "
            f"(/dev/shm: {reason}); use --workers=1"
        ) from error


def _start_worker(worker: _Worker) -> None:
    global _worker  # noqa: PLW0603  (the only way to pass state to a pool's tasks)
    _worker = worker
    # Signals are handled by the parent, which then stops the workers.
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(worker.parent,), daemon=True).start()
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _end_with_parent(parent: int) -> None:
    """Ends this process when its parent was killed; an idle worker would wait for ever."""
    while os.getppid() == parent:
        threading.Event().wait(_POLL_S)
    os._exit(1)


def _call(function: Callable[..., R], *arguments: object) -> R:
    return function(*arguments, _worker.advance)


def can_fork() -> bool:
    """Whether this process has no threads that a fork would lose, TensorFlow's included."""
    if sys.platform != "linux" or threading.active_count() > 1:
        return False
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    try:
        # Raises RuntimeError once TensorFlow has started its threads.
        tf.config.threading.set_intra_op_parallelism_threads(threads + 1)
    except RuntimeError:
        return False
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    return True


def _progress(what: str, total: int, show: bool) -> Progress:
    return Progress(0, total, title=what, unit="image", is_silent=not show)
