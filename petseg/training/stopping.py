"""SIGINT and SIGTERM end a run between two calls, with everything saved."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

_GRACE_S = 25.0  # then a call that does not come back is given up; Kubernetes kills after 30


class StopRequest:
    """Whether a signal has asked the run to end.

    Attributes:
      signal: its number, or None.
      heard: set it once the run acts on the signal.
    """

    def __init__(self):
        self.signal: int | None = None
        self.heard = threading.Event()


class StopNow(Exception):
    """Raised between two items of `until`."""


@contextlib.contextmanager
def noticing_signals(grace_s: float = _GRACE_S) -> Iterator[StopRequest]:
    """While open, the first SIGINT or SIGTERM is noted; a second one acts at once.

    If nobody has heard `grace_s` seconds after the signal, the process ends all the same:
    something that it waits for (an input service, another host) has gone, and Python's
    signal handlers are not called while TensorFlow waits.
    """
    request = StopRequest()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _frame: object) -> None:
        request.signal = number
        restore()

    for number in numbers:
        signal.signal(number, note)
    with _noting_at_once(numbers, lambda number: _end_after(grace_s, number, request.heard)):
        try:
            yield request
        finally:
            request.heard.set()
            restore()


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """While open, a signal ends the process without a word from the main thread.

    For calls of TensorFlow that wait, with nothing to save. TensorFlow puts a handler of its
    own in the place of Python's for SIGTERM when it joins a cluster: Python's comes back.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    with _noting_at_once(numbers, lambda number: os._exit(128 + number)):
        yield
    for number in numbers:
        signal.signal(number, signal.getsignal(number))


def until(items: Iterable[T], is_over: Callable[[], bool]) -> Iterator[T]:
    """The same items; raises StopNow before the next one once it is over."""
    for item in items:
        if is_over():
            raise StopNow
        yield item


@contextlib.contextmanager
def _noting_at_once(numbers: Iterable[int], act: Callable[[int], None]) -> Iterator[None]:
    """Calls act(number) from a thread when a signal comes, whatever the main thread does."""
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


def _end_after(seconds: float, number: int, heard: threading.Event) -> None:
    if not heard.wait(seconds):
        print(
            f"stopped by {signal.Signals(number).name}: the step did not come to its end within "
            f"{seconds:.0f} s; the same command goes on from the last checkpoint",
            file=sys.stderr,
            flush=True,
        )
        os._exit(128 + number)
