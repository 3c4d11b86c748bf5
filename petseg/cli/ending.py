"""How a command ends: with a status, and at most one line on standard error.

The statuses are 0 for success, 1 if the work found a fault, 2 for a wrong command, config or
data set, 129, 130 and 143 after SIGHUP, SIGINT and SIGTERM, and 141 where nobody reads its
output any more (| head -1).
"""

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from petseg.errors import STOPPING, FaultFound, StoppedBySignal, UserError

# What the machine refuses: no space, no permission, a file where a folder should be.
_MACHINE_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO),
}


def call(main: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> int:
    """Calls main(arguments) and returns the status to end with.

    A user's mistake is one line on standard error; only an error in petseg itself is raised.
    """
    try:
        with _signals_unwind():
            main(arguments)
            sys.stdout.flush()
        return 0
    except UserError as error:
        _print_line(f"error: {error}")
        return error.exit_status
    except MemoryError:
        _print_line("error: the memory of this machine does not suffice")
        return FaultFound.exit_status
    except OSError as error:
        return _end_by_machine(error)
    except StoppedBySignal as stop:
        _print_line(str(stop))
        return stop.exit_status
    except KeyboardInterrupt:
        _print_line("stopped by SIGINT before it was done")
        return 128 + signal.SIGINT


def _end_by_machine(error: OSError) -> int:
    is_unread = error.errno == errno.EPIPE
    if not is_unread and error.errno not in _MACHINE_ERRORS:
        raise error
    if not is_unread:
        _print_line(f"error: {error.filename or 'output'}: {error.strerror}")
    _discard_output()
    return 128 + signal.SIGPIPE if is_unread else FaultFound.exit_status


def end_early_interrupts_in_one_line() -> None:
    """From here on Ctrl-C before `call` ends the process with one line and status 130.

    Loading TensorFlow takes seconds, in which people notice a wrong command.
    """
    show = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            show(kind, error, trace)
            return
        _print_line("stopped by SIGINT before it began")
        os._exit(128 + signal.SIGINT)

    sys.excepthook = hook


@contextlib.contextmanager
def _signals_unwind() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that temporary files go.

    Off the main thread, and where they are ignored (nohup), signals are left alone.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        # Of SIGINT Python itself makes a KeyboardInterrupt.
        before = {n: signal.getsignal(n) for n in STOPPING if n != signal.SIGINT}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, _unwind)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _unwind(number: int, _frame: object) -> None:
    raise StoppedBySignal(number, "before it was done")


def _print_line(line: str) -> None:
    # The terminal may be gone.
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _discard_output() -> None:
    """What is still in a buffer would fail again when Python ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(null, stream.fileno())
    os.close(null)
