"""How one command starts another of petseg."""

import os
import sys


def command_line(module: str, *arguments: str) -> list[str]:
    """The line that runs a module of petseg in a process of its own.

    It imports modules from the current folder only if this process would: an installed command
    does not, so that the user's own random.py or keras.py is not taken for the library's.
    """
    here = os.path.realpath(os.curdir)
    imports_from_here = any(os.path.realpath(path or os.curdir) == here for path in sys.path)
    return [sys.executable, *([] if imports_from_here else ["-P"]), "-m", module, *arguments]
