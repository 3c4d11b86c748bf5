"""Parses the flags of a command; whatever is wrong with them is one line and status 2."""

import os
import re
import sys
from collections.abc import Sequence

from absl import flags

from petseg import progress
from petseg.errors import UserError, shown

flags.DEFINE_bool("quiet", False, "Show no progress: results, warnings and errors alone.")
# Answered before anything is parsed, as --help is.
flags.DEFINE_bool("version", False, "Print the version, and stop.")
flags.DEFINE_bool("help_config", False, "Print every setting of --config, and stop.")
_CONFIG = re.compile(r"--?(?:no)?config([.=].*)?", re.DOTALL)
_FOLDERS_TO_READ = ("data_dir", "workdir")
_MISSING = re.compile(r"flag --(\w+)=None: Flag --\1 must have a value other than None\.")


def parse(argv: Sequence[str]) -> list[str]:
    """Parses as absl does, but a wrong flag ends the process with one line and status 2.

    In commands with a flag --config, a recipe's name stands for its file, and an unknown
    setting is refused with the name of the right one.

    Returns:
      The program and the arguments that are no flags.
    """
    try:
        arguments = flags.FLAGS(_check_config(argv))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(UserError.exit_status)
    # ml_collections reports a wrong type in several ways: whatever it is, it is about the command.
    except Exception as error:
        print(f"error: {_explain(error, argv[1:])} (see --help)", file=sys.stderr)
        sys.exit(UserError.exit_status)
    if flags.FLAGS.quiet:
        progress.silence()
    return arguments


def refuse_arguments(arguments: Sequence[str]) -> None:
    """Raises UserError if there are arguments that are no flags."""
    if arguments:
        raise UserError(f"unexpected argument '{arguments[0]}'; every option is a --flag")


def _explain(error: Exception, given: Sequence[str]) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = " ".join(text.split())
    if missing := _MISSING.fullmatch(text):
        (name,) = missing.groups()
        is_folder = name in _FOLDERS_TO_READ and len(given) == 1 and os.path.isdir(given[0])
        hint = f"; did you mean --{name}={shown(given[0])}?" if is_folder else ""
        return f"--{name} is missing: {flags.FLAGS[name].help.rstrip('.')}{hint}"
    return text


def _check_config(argv: Sequence[str]) -> list[str]:
    argv = flags.FLAGS.read_flags_from_files(argv, force_gnu=False)
    given = [a for a in argv[1 : _end_of_flags(argv)] if _CONFIG.fullmatch(a)]
    if "config" not in flags.FLAGS:
        if given:
            raise UserError(f"{given[0]}: this command takes no --config and no settings")
        return argv
    # Loads the config's modules, which commands without a config do not need.
    from petseg import recipes
    from petseg.cli import setting_flags

    config = setting_flags.config_of(argv)
    if config is not None:
        recipes.load(config)
    elif given:
        raise UserError(
            f"--config is missing: {given[0]} changes a setting of one; name a config file or a "
            f"recipe: {', '.join(recipes.names())}"
        )
    setting_flags.refuse_unknown(argv)
    return recipes.resolve_arguments(argv)


def _end_of_flags(argv: Sequence[str]) -> int:
    return list(argv).index("--") if "--" in argv else len(argv)
