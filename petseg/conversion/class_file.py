"""The class file of a data set: a line 'id,name' or 'id,name,colour' for each class."""

import csv
import re
from collections.abc import Mapping

from etils import epath

from petseg.conversion.sources.base import MaskRules
from petseg.errors import UserError

IGNORED = "ignored"
_COLOUR = re.compile(r"#([0-9a-fA-F]{6})|(\d{1,3})[ ;](\d{1,3})[ ;](\d{1,3})")


def read_mask_rules(path: str, ignore_id: int | None) -> MaskRules:
    """What a class file and an ignore id say of the masks.

    A colour is #rrggbb, 'r g b' or r,g,b, 0-255. A first line that is a header, empty lines and
    lines that begin with # are passed over.

    Args:
      path: the class file; empty if there is none, so that any value may occur.
      ignore_id: a mask value that is no class, 0-255, or None.

    Raises:
      UserError: the file is missing or malformed; an id, name or colour stands twice.
    """
    if not path:
        if ignore_id is not None:
            raise UserError("--ignore_id needs --classes, which names all other values")
        return MaskRules(None)
    names: dict[int, str] = {}
    colours: dict[tuple[int, int, int], int] = {}
    for number, fields in _rows(path):
        where = f"--classes: {path}, line {number}"
        value, name, colour = _class(fields, where)
        if value in names:
            raise UserError(f"{where}: id {value} stands twice")
        if name in names.values():
            raise UserError(f"{where}: the name '{name}' stands twice")
        if colour in colours:
            raise UserError(f"{where}: the colour {show_colour(colour)} stands twice")
        names[value] = name
        if colour:
            colours[colour] = value
    if not names:
        raise UserError(
            f"--classes: {path} names no class; a line is 'id,name' or 'id,name,colour'"
        )
    if colours and len(colours) < len(names):
        bare = next(value for value in names if value not in colours.values())
        raise UserError(
            f"--classes: {path}: class {bare} ({names[bare]}) has no colour, others have"
        )
    if ignore_id is not None:
        if not 0 <= ignore_id <= 255:
            raise UserError(f"--ignore_id={ignore_id} must lie between 0 and 255")
        names.setdefault(ignore_id, IGNORED)
    return MaskRules(dict(sorted(names.items())), colours)


def label_map_spec(names: Mapping[int, str], ignore_id: int | None) -> str:
    """A label map of one class for each value: what to give as config.data.label_map."""
    parts = [f"{name}={value}" for value, name in names.items() if value != ignore_id]
    return "; ".join(parts + ([f"{IGNORED}={ignore_id}"] if ignore_id is not None else []))


def show_colour(colour: tuple[int, int, int]) -> str:
    """As '#rrggbb'."""
    return "#" + "".join(f"{channel:02x}" for channel in colour)


def _rows(path: str) -> list[tuple[int, list[str]]]:
    try:
        text = epath.Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--classes: cannot read {path}: {error}") from error
    rows = [
        (number, [field.strip() for field in fields])
        for number, fields in enumerate(csv.reader(text.splitlines()), 1)
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
            f"'{IGNORED}' (see --ignore_id) or hold ';', '=' or ','"
        )
    return value, name, _colour(fields[2], where) if len(fields) == 3 and fields[2] else None


def _colour(text: str, where: str) -> tuple[int, int, int]:
    found = _COLOUR.fullmatch(text)
    if found and found[1]:
        return tuple(bytes.fromhex(found[1]))
    if found and all(int(channel) <= 255 for channel in found.groups()[1:]):
        return tuple(int(channel) for channel in found.groups()[1:])
    raise UserError(f"{where}: colour '{text}' is neither #rrggbb nor 'r g b' of 0-255")
