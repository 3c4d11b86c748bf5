"""Flags that are paths."""

import os

from absl import flags

from petseg import paths
from petseg.errors import UserError, shown

flags.disclaim_key_flags()  # they belong to the modules that call `define`


class _PathParser(flags.ArgumentParser):
    def parse(self, argument: str) -> str:
        return paths.expand(argument)


def define(
    name: str, default: str | None, help: str, *, required: bool = False
) -> flags.FlagHolder[str]:
    """Defines a flag whose value is a path; a leading ~ is the user's folder."""
    return flags.DEFINE(_PathParser(), name, default, help, required=required)


def check_is_run(flag: str, folder: str) -> None:
    """Raises UserError if what should be a run is a local folder that does not exist."""
    check_is_there(flag, folder, "petseg-train makes runs")


def check_is_data_set(flag: str, folder: str | None) -> None:
    """Raises UserError if what should be a data set is a local folder that does not exist."""
    check_is_there(flag, folder, "petseg-convert makes data sets")


def check_is_there(flag: str, folder: str | None, remedy: str) -> None:
    """Raises UserError if a flag names a local folder that does not exist; empty is none."""
    if not folder or "://" in folder:
        return
    try:
        os.stat(folder)
    except (FileNotFoundError, NotADirectoryError):
        text = f"--{flag}={shown(folder)}: there is no such folder; {remedy}"
        raise UserError(text) from None
    except (OSError, ValueError):
        return  # whoever opens it says why
