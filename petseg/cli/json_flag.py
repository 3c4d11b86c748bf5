"""The flag --json, which commands with many figures share."""

import json
import sys
from collections.abc import Callable
from typing import TextIO

from absl import flags

flags.disclaim_key_flags()  # they belong to the modules that call `define`


def define() -> Callable[[dict], None]:
    """Defines --json; returns a function that prints figures as one line of JSON, if wanted."""
    asked = flags.DEFINE_bool(
        "json", None, "Print all figures as one last line; by default unless it is a terminal's."
    )

    def print_figures(figures: dict) -> None:
        if is_wanted(asked.value, sys.stdout):
            print(json.dumps(figures))

    return print_figures


def is_wanted(asked: bool | None, output: TextIO) -> bool:
    """Whether the JSON is printed: as asked, else where a program may read it."""
    return not output.isatty() if asked is None else asked
