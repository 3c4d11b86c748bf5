"""Waiting for what another process or thread does, and failing with words if it does not."""

import time
from collections.abc import Callable

LIMIT_S = 600


def wait_until(
    happened: Callable[[], bool], what: str, lives: Callable[[], bool] = lambda: True
) -> None:
    """Returns once `happened()`.

    Args:
      happened: Looked at every 20 ms.
      what: In the failure's text.
      lives: Whether it can still happen.

    Raises:
      AssertionError: It has not happened in LIMIT_S seconds, or cannot happen any more.
    """
    deadline_s = time.monotonic() + LIMIT_S
    while not happened():
        assert lives() or happened(), f"it ended before: {what}"
        assert time.monotonic() < deadline_s, f"{LIMIT_S} s without: {what}"
        time.sleep(0.02)
