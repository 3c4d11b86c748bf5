"""SIGINT and SIGTERM end a run between two steps, with everything saved."""

import contextlib
import signal
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class StopRequest:
    """Whether a signal has asked the run to end.

    Attributes:
      signal: its number, or None.
    """

    def __init__(self):
        self.signal: int | None = None


class StopNow(Exception):
    """Raised between two items of `until_stopped`."""


@contextlib.contextmanager
def noticing_signals() -> Iterator[StopRequest]:
    """While open, the first SIGINT or SIGTERM is noted; a second one acts at once."""
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _frame: object) -> None:
        request.signal = number
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore()


def until_stopped(items: Iterable[T], request: StopRequest) -> Iterator[T]:
    """The same items; raises StopNow before the next one once a signal has come."""
    for item in items:
        if request.signal is not None:
            raise StopNow
        yield item
