"""How a command ends early, for reasons that are not petseg's fault."""

import difflib
import signal
from collections.abc import Iterable

# What asks a command to stop; Windows knows no SIGHUP.
STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class UserError(Exception):
    """A wrong command, config, data set or run folder: one line, exit status 2."""

    exit_status = 2


class FaultFound(UserError):
    """The work itself met a fault (a bad file, a damaged record): exit status 1."""

    exit_status = 1


class StoppedBySignal(Exception):
    """SIGINT, SIGTERM or SIGHUP came; everything is saved. Exit status 128 + the signal."""

    def __init__(self, number: int, where: str):
        """`where`: what was saved and how to resume, in one line."""
        super().__init__(f"stopped by {signal.Signals(number).name} {where}")
        self.exit_status = 128 + number


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """'; did you mean NAME?' for the end of a message; '' if no known name is near."""
    near = difflib.get_close_matches(name.lower(), known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def shown(name: str) -> str:
    """A file's name as it can stand in one line: escaped if it holds odd characters."""
    return name if name.isprintable() else ascii(name)
