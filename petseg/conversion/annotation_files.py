"""Finds the files of annotations that the flags name, and reads their JSON."""

from collections.abc import Sequence
from typing import TypeVar

import pydantic

from petseg.conversion import annotation_hint, files
from petseg.conversion.json_stream import BrokenJson
from petseg.conversion.sources.base import SourceOptions
from petseg.data import json_file
from petseg.errors import UserError, shown

T = TypeVar("T")

# Strict types, no NaN; other tools may add fields.
TOLERANT = pydantic.ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


def list_files(pattern: str, flag: str, suffixes: Sequence[str]) -> list[str]:
    """Lists the files that a flag names: a file, a folder with all below it, or a pattern.

    Args:
      pattern: What the flag says.
      flag: The flag's name.
      suffixes: Those of annotations, such as '.json'.

    Raises:
      UserError: There is none.
    """
    root = files.fixed_part(pattern)
    if root == pattern and not files.is_folder(pattern):
        return [pattern]
    if not files.is_folder(root):
        raise UserError(f"--{flag}: {root} is not a folder")
    found = sorted(path for _, path in files.list_pictures(pattern))
    found = [p for p in found if p.lower().endswith(tuple(suffixes)) and not _is_twin(p)]
    if not found:
        raise UserError(f"--{flag}: {pattern} holds no {' or '.join(suffixes)} file")
    return found


def folder_of_images(options: SourceOptions, annotations: Sequence[str]) -> tuple[str, str]:
    """Returns where the images are looked for, and the flag that says so.

    That is --images, else --raw_dir, else the folder that holds all annotations.
    """
    if options.images:
        return options.images, "images"
    if options.raw_dir:
        return options.raw_dir, "raw_dir"
    folders = [path.rpartition("/")[0] or "." for path in annotations]
    common = folders[0]
    while common and not all(f"{folder}/".startswith(f"{common}/") for folder in folders):
        common = common.rpartition("/")[0]
    return common or "/", "annotations"


def require_some(options: SourceOptions, source: str) -> None:
    """Raises UserError if neither --raw_dir nor --annotations is given."""
    if not options.raw_dir and not options.annotations:
        raise UserError(f"--source={source} needs --raw_dir, or --annotations and --images")


def read_json(path: str, schema: type[T]) -> T:
    """Reads a JSON file of annotations; raises ValueError with one line that says what is wrong."""
    try:
        return json_file.read(path, schema)
    except FileNotFoundError as error:
        raise ValueError("there is no such file") from error


def other_format(path: str, source: str, error: ValueError | OSError) -> UserError:
    """Returns why a file cannot be read; if it is of another tool, which source reads it."""
    hint = None if isinstance(error, BrokenJson) else annotation_hint.of_file(path, source)
    hint = hint and hint.replace(path.rpartition("/")[2], "it", 1)
    if isinstance(error, OSError):
        error = error.strerror or error
    return UserError(f"--annotations: {shown(path)}: {hint or error}")


def _is_twin(path: str) -> bool:
    return files.is_twin(path.rpartition("/")[2])
