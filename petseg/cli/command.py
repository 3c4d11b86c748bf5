"""What every command does alike: flags, one-line errors, exit statuses, quiet logs.

Import this before anything that imports TensorFlow.
"""

import errno
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import absl.logging
from absl import app, flags

from petseg import standard_error
from petseg.cli import help_page
from petseg.errors import FaultFound, StoppedBySignal, UserError

# What a machine refuses whatever the program does: space, rights, paths of another kind.
_MACHINE_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO),
}


def _import_tensorflow_quietly() -> None:
    """Holds back what TensorFlow's libraries print while they load.

    TensorFlow 2.21 writes several lines to file descriptor 2 whatever
    TF_CPP_MIN_LOG_LEVEL says. Set that variable to 0 to see them.
    """
    with standard_error.held_back():
        import tensorflow as tf

        tf.config.list_physical_devices()


_import_tensorflow_quietly()


def run(
    main: Callable[[Sequence[str]], None],
    first: Sequence[str],
    settings: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Parses the flags, calls main(arguments) and ends the process.

    Args:
      main: the command.
      first: the flags that --help shows first.
      settings: what is given as a flag but is none of absl's: name -> help.

    Statuses: 0 success; 1 the work found a fault; 2 a wrong command, config or
    data set; 130 after SIGINT and 143 after SIGTERM. A user's mistake is one line
    on standard error; only an error in petseg itself shows a traceback.
    """
    if help_page.wants_help(sys.argv[1:]):
        print(help_page.page(sys.modules[main.__module__].__doc__, first, settings))
        sys.exit(0)
    absl.logging.set_verbosity(absl.logging.WARNING)
    # What Pillow makes of odd files is an error, or nothing that a user could act on.
    warnings.filterwarnings("ignore", module="PIL")
    app.run(lambda argv: sys.exit(_call(main, argv[1:])), flags_parser=_parse_flags)


def _call(main: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, _terminate)
    try:
        main(arguments)
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        if error.errno not in _MACHINE_ERRORS:
            raise
        print(f"error: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        return FaultFound.exit_status
    except StoppedBySignal as stop:
        print(stop, file=sys.stderr)
        return stop.exit_status
    except KeyboardInterrupt:
        print("stopped by SIGINT", file=sys.stderr)
        return 128 + signal.SIGINT


def _terminate(number: int, _frame: object) -> None:
    """SIGTERM unwinds the stack as Ctrl-C does, so that temporary files go."""
    raise StoppedBySignal(number, "before it was done")


def _parse_flags(argv: Sequence[str]) -> list[str]:
    """As absl's parser, but every wrong flag ends in one line and status 2."""
    try:
        return flags.FLAGS(argv)
    # A config file is its user's code, and ml_collections reports an unknown field or a
    # wrong type in several ways: whatever it is, it is about the command.
    except Exception as error:
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        print(f"error: {' '.join(text.split())} (see --help)", file=sys.stderr)
        sys.exit(UserError.exit_status)
