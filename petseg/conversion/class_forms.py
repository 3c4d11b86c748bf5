"""The forms in which programs write class files; the whole file says which one it is."""

import csv
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

IGNORE_LINE, BACKGROUND_LINE = "__ignore__", "_background_"  # LabelMe's own
FORMS = (
    "'id,name', 'id,name,colour', 'name=id,id', 'name,r,g,b', 'r g b name', 'name r g b', "
    "'name:r,g,b::' or a name alone"
)
_ID_WORDS = (
    *("id", "value", "index", "idx", "pixel", "pixel value", "pixel_value"),
    *("class id", "class_id", "classid", "label id", "label_id", "class index", "class_index"),
)
_NAME_WORDS = (
    *("name", "class", "label", "category", "class name", "class_name", "classname"),
    *("label name", "label_name"),
)
_COLOUR_WORDS = ("color", "colour", "rgb", "hex", "color_rgb", "hex color", "hex colour")
_CHANNEL_WORDS = {"r": "r", "red": "r", "g": "g", "green": "g", "b": "b", "blue": "b"}
_COLOUR_TEXT = re.compile(r"#[0-9a-fA-F]{6}|\d{1,3}[ ,;]+\d{1,3}[ ,;]+\d{1,3}")
_SEVERAL = re.compile(r"([^=]*)=\s*(\d+(?:\s*,\s*\d+)*)")
_LABELMAP = re.compile(r"([^:]+):([\d,\s]*):[^:]*:[^:]*")
_WORDS_ID_NAME_RGB = re.compile(r"(\d+)\s+(.*\D.*?)\s+(\d+)\s+(\d+)\s+(\d+)")
_WORDS_RGB_NAME = re.compile(r"(\d+)\s+(\d+)\s+(\d+)\s+(\S*[^\s\d].*)")
_WORDS_NAME_RGB = re.compile(r"(.*[^\s\d].*?)\s+(\d+)\s+(\d+)\s+(\d+)")
_WORDS_ID_NAME = re.compile(r"(\d+):?\s+(\S*[^\s\d].*)")
_LONGEST = 10_000  # characters of a line
_SEPARATORS = re.compile(r"[,;=\t]")


@dataclasses.dataclass(frozen=True)
class Line:
    """What a line of a class file says, not yet checked.

    Attributes:
      number: Of the line, from 1.
      name: The class's name.
      values: Its raw values, the first of which is stored; empty if its place is its value.
      colour: As text; empty if there is none.
    """

    number: int
    name: str
    values: tuple[int, ...] = ()
    colour: str = ""


class UnknownForm(Exception):
    """Raised for a class file whose form cannot be told; the message says where and why."""


_Text = tuple[int, str]  # a line's number and its text
_Parse = Callable[[int, str], Line | None]


def parse(lines: Sequence[str]) -> list[Line]:
    """Reads the lines of a class file of any form.

    Empty lines and those that begin with # are skipped, and so is a header.

    Raises:
      UnknownForm: No form fits all lines, or several do that contradict each other.
    """
    texts = [(n, line.strip()) for n, line in enumerate(lines, 1)]
    texts = [(n, text) for n, text in texts if text.strip(",;\t ") and not text.startswith("#")]
    if not texts:
        return []
    if long := [n for n, text in texts if len(text) > _LONGEST]:
        raise UnknownForm(
            f"line {long[0]} has more than {_LONGEST:,} characters; is it a class file?"
        )
    for forms in (_precise(texts), _loose(texts)):
        found: dict[str, list[Line]] = {}
        for name, rest, form in forms:
            read = [form(n, text) for n, text in rest]
            if rest and None not in read and read not in found.values():
                found[name] = read
        if len(found) > 1:
            raise UnknownForm(f"its lines can be read as {' and as '.join(found)}; give ids")
        if found:
            return next(iter(found.values()))
    return _names(texts, lines)


def _precise(texts: Sequence[_Text]) -> Iterator[tuple[str, Sequence[_Text], _Parse]]:
    """Yields each form by its name, with the lines that it is tried on."""
    for separator in ",;\t":
        columns, rest = _header(texts, separator)
        if columns:
            yield "columns of its header", rest, _by_columns(columns, separator)
        else:
            yield "'id,name'", rest, _by_fields(separator, _id_first)
            yield "'name,r,g,b'", texts, _by_fields(separator, _name_first)
            yield "'r,g,b,name'", texts, _by_fields(separator, _colour_first)
    yield "'name:r,g,b::'", texts, _labelmap
    if all(_WORDS_ID_NAME_RGB.fullmatch(text) for _, text in texts):
        yield "'id name r g b'", texts, _words(_WORDS_ID_NAME_RGB, (2, (1,), (3, 4, 5)))
    else:
        yield "'r g b name'", texts, _words(_WORDS_RGB_NAME, (4, (), (1, 2, 3)))
        yield "'name r g b'", texts, _words(_WORDS_NAME_RGB, (1, (), (2, 3, 4)))


def _loose(texts: Sequence[_Text]) -> Iterator[tuple[str, Sequence[_Text], _Parse]]:
    if not any(_SEPARATORS.search(text) for _, text in texts):
        yield "'id name'", texts, _words(_WORDS_ID_NAME, (2, (1,), ()))


def _names(texts: Sequence[_Text], lines: Sequence[str]) -> list[Line]:
    """Reads a file of names alone, whose places are the values."""
    for number, text in texts:
        if _SEPARATORS.search(text) or text.isdecimal():
            # What most lines are like, so that the odd one is named.
            reads = _by_fields(",", _id_first)
            odd = next(((n, t) for n, t in texts if reads(n, t) is None), (number, text))
            raise UnknownForm(f"line {odd[0]}: '{odd[1]}' is not {FORMS}")
    first, last = texts[0][0], texts[-1][0]
    if len(texts) > 1 and texts[0][1].lower() in (*_NAME_WORDS, "names", "classes", "labels"):
        raise UnknownForm(
            f"line {first}: '{texts[0][1]}' may be a header or a class; remove it, or write lines "
            "'id,name'"
        )
    for number in range(first, last):
        if not lines[number - 1].strip():
            raise UnknownForm(
                f"line {number} is empty, and whether it counts decides over the values of the "
                "names below; remove it, or write lines 'id,name'"
            )
    return [Line(number, text) for number, text in texts]


def _fields(text: str, separator: str) -> list[str]:
    return [field.strip() for field in next(csv.reader([text], delimiter=separator))]


def _header(texts: Sequence[_Text], separator: str) -> tuple[dict[str, int], Sequence[_Text]]:
    """Returns field -> column, if the first line names them; and the lines below a header."""
    words = [field.lower() for field in _fields(texts[0][1], separator)]
    columns: dict[str, int] = {}
    for column, word in enumerate(words):
        kinds = (("id", _ID_WORDS), ("name", _NAME_WORDS), ("colour", _COLOUR_WORDS))
        kind = next((kind for kind, of in kinds if word in of), _CHANNEL_WORDS.get(word))
        if kind is None or kind in columns:
            # A header of the id alone, whatever the other columns are called.
            return {}, texts[1:] if words[0] in ("id", "value") and len(words) > 1 else texts
        columns[kind] = column
    has_channels = len(columns.keys() & {"r", "g", "b"})
    if "name" not in columns or len(columns) < 2 or has_channels not in (0, 3):
        return {}, texts
    return columns, texts[1:]


def _by_columns(columns: Mapping[str, int], separator: str) -> _Parse:
    def read(number: int, text: str) -> Line | None:
        fields = _fields(text, separator)
        if columns.get("colour") == len(columns) - 1 and len(fields) == len(columns) + 2:
            fields = [*fields[:-3], " ".join(fields[-3:])]  # a colour of three fields
        given = {kind: fields[c] for kind, c in columns.items() if c < len(fields)}
        extra = len(fields) > len(columns) and any(fields[len(columns) :])
        if extra or "name" not in given or ("id" in columns and not given["id"].isdecimal()):
            return None
        colour = given.get("colour", "")
        if "r" in columns:
            if not {"r", "g", "b"} <= given.keys():
                return None
            colour = " ".join(given[channel] for channel in "rgb")
        return Line(number, given["name"], (int(given["id"]),) if "id" in given else (), colour)

    return read


def _by_fields(separator: str, of_fields: Callable[[int, list[str]], Line | None]) -> _Parse:
    def read(number: int, text: str) -> Line | None:
        if separator == "," and of_fields is _id_first and (several := _SEVERAL.fullmatch(text)):
            values = tuple(int(value) for value in several[2].split(","))
            return Line(number, several[1].strip(), values)
        return of_fields(number, _fields(text, separator))

    return read


def _id_first(number: int, fields: list[str]) -> Line | None:
    if len(fields) == 5:
        fields = [*fields[:2], " ".join(fields[2:])]
    if len(fields) not in (2, 3) or not fields[0].isdecimal():
        return None
    return Line(number, fields[1], (int(fields[0]),), "".join(fields[2:]))


def _name_first(number: int, fields: list[str]) -> Line | None:
    if len(fields) == 4:
        fields = [fields[0], " ".join(fields[1:])]
    is_it = len(fields) == 2 and _COLOUR_TEXT.fullmatch(fields[1]) and not fields[0].isdecimal()
    return Line(number, fields[0], (), fields[1]) if is_it else None


def _colour_first(number: int, fields: list[str]) -> Line | None:
    if len(fields) == 4:
        fields = [" ".join(fields[:3]), fields[3]]
    is_it = len(fields) == 2 and _COLOUR_TEXT.fullmatch(fields[0]) and not fields[1].isdecimal()
    return Line(number, fields[1], (), fields[0]) if is_it else None


def _labelmap(number: int, text: str) -> Line | None:
    match = _LABELMAP.fullmatch(text)
    return Line(number, match[1].strip(), (), match[2].strip()) if match else None


def _words(pattern: re.Pattern, places: tuple[int, tuple[int, ...], tuple[int, ...]]) -> _Parse:
    """Reads words between spaces; places are the groups of name, value and colour."""
    name, values, colour = places

    def read(number: int, text: str) -> Line | None:
        match = pattern.fullmatch(text)
        if not match or _SEPARATORS.search(match[name]):
            return None
        return Line(
            number,
            match[name].strip(),
            tuple(int(match[value]) for value in values),
            " ".join(match[channel] for channel in colour),
        )

    return read
