"""Parses the flags of a command; whatever is wrong with them is one line and status 2."""

import sys
from collections.abc import Sequence

from absl import flags

from petseg.errors import UserError


def parse(argv: Sequence[str]) -> list[str]:
    """Parses as absl does, but a wrong flag ends the process with one line and status 2.

    In commands with a flag --config, a recipe's name stands for its file, and an unknown
    setting is refused with the name of the right one.

    Returns:
      The program and the arguments that are no flags.
    """
    try:
        return flags.FLAGS(_check_config(argv))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    # A config file is its user's code, and ml_collections reports a wrong type in several
    # ways: whatever it is, it is about the command.
    except Exception as error:
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        print(f"error: {' '.join(text.split())} (see --help)", file=sys.stderr)
    sys.exit(UserError.exit_status)


def _check_config(argv: Sequence[str]) -> list[str]:
    if "config" not in flags.FLAGS:
        return list(argv)
    # Loads the config's modules, which commands without a config do not need.
    from petseg import recipes
    from petseg.cli import setting_flags

    argv = flags.FLAGS.read_flags_from_files(argv, force_gnu=False)
    setting_flags.refuse_unknown(argv)
    return recipes.resolve_arguments(argv)
