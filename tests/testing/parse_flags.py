"""python -m testing.parse_flags MODULE < LINES: parses command lines with a command's own flags.

Each line of standard input is a JSON list of arguments; each line of standard output is what is
wrong with it, as a JSON string, '' if nothing. The command itself does not run.
"""

import contextlib
import importlib
import io
import json
import os
import sys


def _fault(arguments: list[str]) -> str:
    from petseg.cli import flag_parsing

    if {"--help", "--version", "--help_config"} & set(arguments):
        return ""  # answered before anything is parsed
    sys.argv = ["petseg", *arguments]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            flag_parsing.parse(sys.argv)
    except SystemExit:
        return said.getvalue().strip()
    return ""


def main() -> None:
    """Parses every line in a process of its own, because absl's flags are global."""
    importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        if not os.fork():
            print(json.dumps(_fault(json.loads(line))), flush=True)
            os._exit(0)
        os.wait()


if __name__ == "__main__":
    main()
