"""SIGINT, SIGTERM and SIGHUP stop a run between two calls of its graph, with everything saved."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from petseg.errors import STOPPING

T = TypeVar("T")


class StopRequest:
    """Whether a signal has asked the run to end.

    Attributes:
      signal: Its number, or None.
      is_handled: Set it once the run acts on the signal.
    """

    def __init__(self):
        self.signal: int | None = None
        self.is_handled = threading.Event()


class StopNow(Exception):
    """Raised between two items of `until`."""


@contextlib.contextmanager
def noticing_signals(grace_s: float | None = None) -> Iterator[StopRequest]:
    """Within the context the first stopping signal is recorded; a second one acts at once.

    If it is not handled `grace_s` seconds after the signal (None: never), the process ends:
    something that it waits for (an input service, another host) is gone, and Python does not
    call its signal handlers while TensorFlow waits. Off the main thread signals are left alone, and
    so is one that is ignored, as SIGHUP is under nohup.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = _heard()
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _frame: object) -> None:
        request.signal = number
        restore()

    for number in numbers:
        signal.signal(number, note)
    watching = (
        contextlib.nullcontext()
        if grace_s is None
        else _watching(numbers, lambda number: _end_after(grace_s, number, request.is_handled))
    )
    with watching:
        try:
            yield request
        finally:
            request.is_handled.set()
            restore()


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """Within the context a signal ends the process without waiting for the main thread.

    For calls of TensorFlow that wait, with nothing to save. TensorFlow replaces Python's
    handler of SIGTERM when it joins a cluster: Python's is restored. Off the main thread signals
    are left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = _heard()
    with _watching(numbers, lambda number: os._exit(128 + number)):
        yield
    for number in numbers:
        signal.signal(number, signal.getsignal(number))


def until(items: Iterable[T], is_over: Callable[[], bool]) -> Iterator[T]:
    """The same items; raises StopNow before the next one once `is_over`."""
    for item in items:
        if is_over():
            raise StopNow
        yield item


def _heard() -> list[int]:
    return [number for number in STOPPING if signal.getsignal(number) != signal.SIG_IGN]


@contextlib.contextmanager
def _watching(numbers: Iterable[int], act: Callable[[int], None]) -> Iterator[None]:
    """Calls act(number) in a thread when a signal comes, whatever the main thread does."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    former = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def watch() -> None:
        while byte := os.read(reading, 1):
            if byte[0] in numbers:
                act(byte[0])

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(former)
        os.close(writing)
        watcher.join()
        os.close(reading)


def _end_after(seconds: float, number: int, is_handled: threading.Event) -> None:
    if not is_handled.wait(seconds):
        print(
            f"stopped by {signal.Signals(number).name}: the step did not end within "
            f"{seconds:.0f} s; the same command resumes from the last checkpoint, or starts again "
            "if there is none",
            file=sys.stderr,
            flush=True,
        )
        os._exit(128 + number)
