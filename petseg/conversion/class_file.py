"""Reads from the class file of a data set what its masks may contain."""

import re
from collections.abc import Sequence

from petseg.conversion import class_forms, text_files
from petseg.conversion.class_forms import Line
from petseg.conversion.sources.base import MaskRules
from petseg.data.label_map import IGNORED
from petseg.errors import UserError

Colour = tuple[int, int, int]

_COLOUR = re.compile(r"#([0-9a-fA-F]{6})|(\d{1,3})[ ,;]+(\d{1,3})[ ,;]+(\d{1,3})")
_BACKGROUND, _FOREGROUND = "background", "foreground"
_LABELME_IGNORED = 255  # what LabelMe's masks have in place of -1
_MAX_THRESHOLD = 65535


def read_mask_rules(
    path: str, ignore_id: int | None, is_binary: bool = False, threshold: int | None = None
) -> MaskRules:
    """Reads from a class file what the masks may contain.

    The whole file says of which form it is; see class_forms. A colour is #rrggbb, 'r g b' or
    r,g,b, 0-255. Without ids the classes are 0, 1, ... in the order of the file. A class of
    several lines, which must have the same id and name, has the colours of all of them.

    Args:
      path: The class file; empty if there is none, so that any value may occur.
      ignore_id: A mask value that is no class, 0-255, or None; the class file need not
        name it.
      is_binary: Masks are of one class: what is not zero.
      threshold: Masks are of one class: values from here on.

    Raises:
      UserError: The file is missing or malformed; an id, name or colour is duplicated; or the
        options contradict each other.
    """
    if ignore_id is not None and not 0 <= ignore_id <= 255:
        raise UserError(f"--ignore_id={ignore_id} must lie between 0 and 255")
    rules = _read(path, ignore_id) if path else MaskRules(None, ignored=ignore_id)
    return _one_class(rules, threshold) if is_binary or threshold is not None else rules


def show_colour(colour: Colour) -> str:
    """Formats a colour as '#rrggbb'."""
    return "#" + "".join(f"{channel:02x}" for channel in colour)


def _one_class(rules: MaskRules, threshold: int | None) -> MaskRules:
    """Returns the rules of masks of one class, with the names of two classes of a class file."""
    if threshold is not None and not 1 <= threshold <= _MAX_THRESHOLD:
        raise UserError(f"--threshold={threshold} must be from 1 to {_MAX_THRESHOLD}")
    flag = "--binary" if threshold is None else "--threshold"
    if threshold is not None and rules.ignored is not None:
        raise UserError(
            f"--threshold={threshold} leaves no value to ignore: edges that are smoothed pass "
            "through all of them; leave out --ignore_id"
        )
    classes = {0: _BACKGROUND, 1: _FOREGROUND}
    if rules.names is not None:
        classes = {value: name for value, name in rules.names.items() if value != rules.ignored}
    if len(classes) != 2:
        raise UserError(
            f"{flag} is for masks of background and one class; --classes names {len(classes)}"
        )
    if rules.stored_as:
        raise UserError(f"{flag} stores all values of the class as one; --classes gives several")
    if rules.ignored in (0, *classes):
        raise UserError(
            f"--ignore_id={rules.ignored}: with {flag} 0 is background, and "
            f"{' and '.join(map(str, classes))} are stored"
        )
    if rules.ignored is not None:
        classes[rules.ignored] = IGNORED
    return MaskRules(
        classes,
        ignored=rules.ignored,
        threshold=1 if threshold is None else threshold,
        is_lossy_read=threshold is not None,
    )


def _read(path: str, ignore_id: int | None) -> MaskRules:
    lines = _lines(path)
    names: dict[int, str] = {}
    colours: dict[Colour, int] = {}
    stored_as: dict[int, int] = {}
    is_labelme = lines[0].name == class_forms.IGNORE_LINE and not lines[0].values
    if is_labelme:
        lines, ignore_id = lines[1:], _ignored_by_labelme(path, ignore_id)
    for line, values in zip(lines, _values(lines, path), strict=True):
        where = f"--classes: {path}, line {line.number}"
        value, name = values[0], _name(line, where)
        colour = _colour(line.colour, where) if line.colour else None
        is_further = names.get(value) == name and colour and value in colours.values()
        for place, each in enumerate(() if is_further else values):
            if each in names or each in stored_as or each in values[:place]:
                raise UserError(f"{where}: id {each} is duplicated")
        if not is_further and name in names.values():
            raise UserError(
                f"{where}: the name '{name}' is duplicated; a line '{name}=1,2' gives a class "
                "several values"
            )
        if colour in colours:
            raise UserError(f"{where}: the colour {show_colour(colour)} is duplicated")
        names[value] = name
        stored_as |= dict.fromkeys(values[1:], value)
        if colour:
            colours[colour] = value
    if colours and (bare := sorted(names.keys() - set(colours.values()))):
        raise UserError(
            f"--classes: {path}: class {bare[0]} ({names[bare[0]]}) has no colour, others have; "
            "give all of them one, or none"
        )
    if ignore_id is not None:
        ignore_id = stored_as.get(ignore_id, ignore_id)
        # Whatever the class file calls it: by this name a label map ignores it.
        names[ignore_id] = IGNORED
    return MaskRules(dict(sorted(names.items())), colours, ignore_id, stored_as)


def _lines(path: str) -> list[Line]:
    try:
        lines = class_forms.parse(text_files.read_lines(path, errors="strict"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--classes: cannot read {path}: {error}") from error
    except class_forms.UnknownForm as error:
        raise UserError(f"--classes: {path}, {error}") from error
    if not lines:
        raise UserError(f"--classes: {path} names no class; each line is {class_forms.FORMS}")
    return lines


def _ignored_by_labelme(path: str, ignore_id: int | None) -> int:
    if ignore_id not in (None, _LABELME_IGNORED):
        raise UserError(
            f"--ignore_id={ignore_id}: {path} names {class_forms.IGNORE_LINE}, which LabelMe "
            f"stores as {_LABELME_IGNORED}; leave out --ignore_id"
        )
    return _LABELME_IGNORED


def _values(lines: Sequence[Line], path: str) -> list[tuple[int, ...]]:
    """Returns the raw values of each line; without ids a class's place among the names."""
    places: dict[str, int] = {}
    has_colours = any(line.colour for line in lines)
    found = []
    for line in lines:
        where = f"--classes: {path}, line {line.number}"
        if not line.values and line.name in places and not has_colours:
            raise UserError(f"{where}: the name '{line.name}' is duplicated")
        values = line.values or (places.setdefault(line.name, len(places)),)
        for value in values:
            if value > 255:
                raise UserError(f"{where}: id {value} must lie between 0 and 255")
        found.append(values)
    return found


def _name(line: Line, where: str) -> str:
    name = line.name
    if name == class_forms.BACKGROUND_LINE and not line.values:
        return _BACKGROUND
    if not name or re.search(r"[;=,\x00-\x1f\x7f-\x9f]", name) or name == IGNORED:
        raise UserError(
            f"{where}: '{name}' cannot be a class name: it must not be empty, be "
            f"'{IGNORED}' (see --ignore_id) or contain ';', '=', ',' or a control character"
        )
    return name


def _colour(text: str, where: str) -> Colour:
    match = _COLOUR.fullmatch(text)
    if match and match[1]:
        return tuple(bytes.fromhex(match[1]))
    if match and all(int(channel) <= 255 for channel in match.groups()[1:]):
        return tuple(int(channel) for channel in match.groups()[1:])
    raise UserError(f"{where}: colour '{text}' is neither #rrggbb nor 'r g b' of 0-255")
