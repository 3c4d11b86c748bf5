"""What all commands share: flags, one-line errors, exit statuses, quiet logs.

Import this before anything that imports TensorFlow.
"""

import errno
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import absl.logging
from absl import app

from petseg import standard_error, temporary_folder
from petseg.cli import flag_parsing, help_page
from petseg.errors import FaultFound, StoppedBySignal, UserError

# What the machine refuses: no space, no permission, a file where a folder should be.
_MACHINE_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO),
}


standard_error.import_tensorflow()


def run(
    main: Callable[[Sequence[str]], None],
    first: Sequence[str],
    settings: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Parses the flags, calls main(arguments) and ends the process.

    Args:
      main: the command; its module's docstring is the text of --help.
      first: names of the flags that --help lists first.
      settings: flags that absl does not know, such as config.data.dir: name -> help.

    The statuses are 0 for success, 1 if the work found a fault, 2 for a wrong command,
    config or data set, 130 after SIGINT and 143 after SIGTERM. A user's mistake is one
    line on standard error; only an error in petseg itself shows a traceback.
    """
    if help_page.wants_help(sys.argv[1:]):
        print(help_page.page(sys.modules[main.__module__].__doc__, first, settings))
        sys.exit(0)
    temporary_folder.use_own()
    absl.logging.set_verbosity(absl.logging.WARNING)
    # Pillow warns about odd files that it can read; nobody could act on that.
    warnings.filterwarnings("ignore", module="PIL")
    app.run(lambda argv: sys.exit(_call(main, argv[1:])), flags_parser=flag_parsing.parse)


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
