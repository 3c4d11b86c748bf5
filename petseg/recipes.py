"""Recipes: the config files that come with petseg, found by name wherever it is installed."""

import re
from collections.abc import Sequence
from pathlib import Path

from petseg import configs, paths
from petseg.errors import UserError

FLAG_HELP = "A recipe's name, or a config file of your own."
_FOLDER = Path(configs.__file__).parent


def names() -> tuple[str, ...]:
    """Names of the recipes, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("[!_]*.py")))


def find(config: str) -> str:
    """The file that a value of --config names.

    Args:
      config: path of a file, or the name of a recipe; either may end in ':ARGUMENT', which
        ml_collections passes to get_config.

    Returns:
      The path; an existing file goes before a recipe of the same name.

    Raises:
      UserError: there is neither a file nor a recipe of that name.
    """
    config = paths.expand(config)
    name, colon, argument = config.partition(":")
    if Path(name).is_file():
        return config
    if name in names():
        return f"{_FOLDER / name}.py{colon}{argument}"
    raise UserError(
        f"--config={name} is no file and no recipe; the recipes are {', '.join(names())}"
    )


def resolve_arguments(arguments: Sequence[str]) -> list[str]:
    """A command line in which every --config=NAME and --config NAME gives the file's path."""
    resolved: list[str] = []
    for index, argument in enumerate(arguments):
        if argument == "--":
            return [*resolved, *arguments[index:]]
        flag, equals, value = argument.partition("=")
        if equals and flag in ("--config", "-config"):
            resolved.append(f"{flag}={find(value)}")
        elif resolved and re.fullmatch("--?config", resolved[-1]):
            resolved.append(find(argument))
        else:
            resolved.append(argument)
    return resolved
