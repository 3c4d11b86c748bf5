"""Reads a large JSON file piece by piece, so that its size does not decide over memory."""

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import BinaryIO

from etils import epath

from petseg.data import regular_file

_CHUNK_BYTES = 4 << 20  # 4 MiB
_MAX_VALUE_BYTES = 256 << 20  # 256 MiB; a value is one element of an array
_NUMBER_TAIL = 3  # characters that do not yet go on with a number: 'e+' after '1'
_SPACE = re.compile(r"[ \t\n\r]*")
_BOM = "\xef\xbb\xbf"
_DECODER = json.JSONDecoder()


class BrokenJson(ValueError):
    """Raised for a file that is no JSON object; the message says where."""


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """A value of the object, or one element of an array that is one.

    Attributes:
      key: The key of the value.
      index: The element's index; None if the value is no array, or an empty one.
      offset: Position in the file, in bytes.
      content: The bytes of the value or element.
    """

    key: str
    index: int | None
    offset: int
    content: bytes


def read_pieces(path: str) -> Iterator[Piece]:
    """Yields the values of a JSON file's one object; of arrays, element by element.

    Args:
      path: A local or remote path.

    Raises:
      BrokenJson: It is not JSON, no object, or has an element of more than 256 MiB.
      OSError: It cannot be read.
    """
    remote = "://" in path
    with epath.Path(path).open("rb") if remote else regular_file.open_regular(path, None) as file:
        window = _Window(file)
        window.take("{", "an object, {...}, is expected")
        while window.peek() != "}":
            key = json.loads(window.value()[1])
            if not isinstance(key, str):
                raise window.broken("a key is expected")
            window.take(":", "':' is expected")
            if window.peek() != "[":
                yield Piece(key, None, *window.value())
            else:
                yield from _elements(window, key)
            if window.peek() != "}":
                window.take(",", "',' or '}' is expected")
        window.take("}", "'}' is expected")
        if window.peek():
            raise window.broken("something follows the object")


def _elements(window: "_Window", key: str) -> Iterator[Piece]:
    offset = window.take("[", "'[' is expected")
    index = 0
    while window.peek() != "]":
        yield Piece(key, index, *window.value())
        index += 1
        if window.peek() != "]":
            window.take(",", "',' or ']' is expected")
    window.take("]", "']' is expected")
    if not index:
        yield Piece(key, None, offset, b"[]")


class _Window:
    """A part of a file as text with a character for each byte (Latin-1)."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._text, self._start, self._at = "", 0, 0
        self._more(_CHUNK_BYTES)
        self._at = len(_BOM) if self._text.startswith(_BOM) else 0

    def peek(self) -> str:
        """Returns the next character that is no white space; empty at the end of the file."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more(_CHUNK_BYTES):
                return ""

    def take(self, character: str, expected: str) -> int:
        """Steps over a character, whose position is returned; raises BrokenJson at another one."""
        if self.peek() != character:
            raise self.broken(expected)
        self._at += 1
        return self._start + self._at - 1

    def value(self) -> tuple[int, bytes]:
        """Steps over a value; returns its position and bytes."""
        self.peek()
        while True:
            try:
                _, end = _DECODER.raw_decode(self._text, self._at)
                # Here '1' may be the beginning of '1.5e+3', whose rest is in the next chunk.
                if end + _NUMBER_TAIL < len(self._text) or not self._more(_CHUNK_BYTES):
                    break
            except (ValueError, RecursionError) as error:
                left = len(self._text) - self._at
                if left > _MAX_VALUE_BYTES or not self._more(max(left, _CHUNK_BYTES)):
                    at = self._start + getattr(error, "pos", self._at)
                    what = getattr(error, "msg", "nested too deeply")
                    raise BrokenJson(f"JSON is broken at byte {at:,}: {what}") from error
        offset, content = self._start + self._at, self._text[self._at : end].encode("latin-1")
        self._at = end
        return offset, content

    def broken(self, expected: str) -> BrokenJson:
        """Returns the error for the current position."""
        return BrokenJson(f"JSON is broken at byte {self._start + self._at:,}: {expected}")

    def _more(self, size: int) -> bool:
        """Reads on, and forgets what lies behind; returns whether there was anything."""
        chunk = self._file.read(size)
        if not chunk:
            return False
        self._start += self._at
        self._text = self._text[self._at :] + chunk.decode("latin-1")
        self._at = 0
        return True
