"""Reads the class file of a data set: one line 'id,name' or 'id,name,colour' per class."""

import csv
import re

from petseg.conversion import text_files
from petseg.conversion.sources.base import MaskRules
from petseg.data.label_map import IGNORED
from petseg.errors import UserError

_COLOUR = re.compile(r"#([0-9a-fA-F]{6})|(\d{1,3})[ ;](\d{1,3})[ ;](\d{1,3})")


def read_mask_rules(path: str, ignore_id: int | None) -> MaskRules:
    """Reads from a class file what the masks may contain.

    A colour is #rrggbb, 'r g b' or r,g,b, 0-255. A header, empty lines and lines that begin
    with # are skipped.

    Args:
      path: The class file; empty if there is none, so that any value may occur.
      ignore_id: A mask value that is no class, 0-255, or None; the class file need not
        name it.

    Raises:
      UserError: The file is missing or malformed; an id, name or colour is duplicated.
    """
    if ignore_id is not None and not 0 <= ignore_id <= 255:
        raise UserError(f"--ignore_id={ignore_id} must lie between 0 and 255")
    if not path:
        return MaskRules(None, ignored=ignore_id)
    names: dict[int, str] = {}
    colours: dict[tuple[int, int, int], int] = {}
    for number, fields in _rows(path):
        where = f"--classes: {path}, line {number}"
        value, name, colour = _class(fields, where)
        if value in names:
            raise UserError(f"{where}: id {value} is duplicated")
        if name in names.values():
            raise UserError(f"{where}: the name '{name}' is duplicated")
        if colour in colours:
            raise UserError(f"{where}: the colour {show_colour(colour)} is duplicated")
        names[value] = name
        if colour:
            colours[colour] = value
    if not names:
        raise UserError(
            f"--classes: {path} names no class; each line is 'id,name' or 'id,name,colour'"
        )
    if colours and len(colours) < len(names):
        bare = next(value for value in names if value not in colours.values())
        raise UserError(
            f"--classes: {path}: class {bare} ({names[bare]}) has no colour, others have"
        )
    if ignore_id is not None:
        # Whatever the class file calls it: by this name a label map ignores it.
        names[ignore_id] = IGNORED
    return MaskRules(dict(sorted(names.items())), colours, ignore_id)


def show_colour(colour: tuple[int, int, int]) -> str:
    """Formats a colour as '#rrggbb'."""
    return "#" + "".join(f"{channel:02x}" for channel in colour)


def _rows(path: str) -> list[tuple[int, list[str]]]:
    try:
        lines = text_files.read_lines(path, errors="strict")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--classes: cannot read {path}: {error}") from error
    rows = [
        (number, [field.strip() for field in fields])
        for number, fields in enumerate(csv.reader(lines), 1)
        if fields and any(fields) and not re.fullmatch(r"#.*", fields[0].strip())
    ]
    is_header = bool(rows) and not rows[0][1][0].isdecimal()
    return rows[1:] if is_header and rows[0][1][0].lower() in ("id", "value") else rows


def _class(fields: list[str], where: str) -> tuple[int, str, tuple[int, int, int] | None]:
    if len(fields) == 5:
        fields = [*fields[:2], " ".join(fields[2:])]
    if len(fields) not in (2, 3) or not fields[0].isdecimal():
        raise UserError(f"{where}: '{','.join(fields)}' is not 'id,name' or 'id,name,colour'")
    value, name = int(fields[0]), fields[1]
    if value > 255:
        raise UserError(f"{where}: id {value} must lie between 0 and 255")
    if not name or re.search(r"[;=,\n]", name) or name == IGNORED:
        raise UserError(
            f"{where}: '{name}' cannot be a class name: it must not be empty, be "
            f"'{IGNORED}' (see --ignore_id) or contain ';', '=' or ','"
        )
    return value, name, _colour(fields[2], where) if len(fields) == 3 and fields[2] else None


def _colour(text: str, where: str) -> tuple[int, int, int]:
    match = _COLOUR.fullmatch(text)
    if match and match[1]:
        return tuple(bytes.fromhex(match[1]))
    if match and all(int(channel) <= 255 for channel in match.groups()[1:]):
        return tuple(int(channel) for channel in match.groups()[1:])
    raise UserError(f"{where}: colour '{text}' is neither #rrggbb nor 'r g b' of 0-255")
