"""Recipes: the config files that come with petseg, found by name wherever it is installed."""

import difflib
import importlib.machinery
import importlib.util
import re
import traceback
from collections.abc import Sequence
from pathlib import Path

from petseg import configs, paths
from petseg.config import Config
from petseg.errors import UserError

FLAG_HELP = "A recipe's name, or a config file of your own."
_MOST_NEAR = 3  # that a name may stand for
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
    if name and Path(name).is_dir():
        raise UserError(f"--config={name} is a folder; name a config file in it")
    stem = Path(name).stem
    near = [one for one in names() if stem and stem in one]
    if not 0 < len(near) <= _MOST_NEAR:
        near = difflib.get_close_matches(stem, names(), 1)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UserError(
        f"--config={name} is no file and no recipe; {hint}the recipes are {', '.join(names())}"
    )


def load(config: str) -> Config:
    """The settings that a value of --config stands for.

    Args:
      config: See `find`.

    Raises:
      UserError: There is no such file, or it is no config file; names the line at fault.
    """
    path, colon, argument = find(config).partition(":")
    loader = importlib.machinery.SourceFileLoader("petseg_recipe", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    try:
        loader.exec_module(module)
        get_config = getattr(module, "get_config", None)
        if get_config is None:
            raise UserError(f"--config={path} is no config file: it has no function get_config()")
        settings = get_config(argument) if colon else get_config()
    except UserError:
        raise
    # It is its user's code.
    except Exception as error:
        line, reason = _line_of(path, error), " ".join(str(error).split())
        kind = type(error).__name__
        what = "is not Python" if isinstance(error, SyntaxError) else "cannot be loaded"
        raise UserError(f"--config={path} {what}{line}: {kind}: {reason}") from error
    if not isinstance(settings, Config):
        raise UserError(f"--config={path}: its get_config() does not return a petseg Config")
    return settings


def _line_of(path: str, error: Exception) -> str:
    """', line 3' for an error that a file raised."""
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}" if error.lineno else ""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    return f", line {lines[-1]}" if lines else ""


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
