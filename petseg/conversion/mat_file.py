"""Reads number matrices out of MATLAB's .mat files of versions 5 to 7.

SciPy's reader crashes the process on some damaged files, which a folder of masks may hold.
"""

import dataclasses
import math
import zlib
from collections.abc import Iterator

import numpy as np

_HEADER_BYTES, _ORDER = 128, slice(126, 128)
_MATRIX, _COMPRESSED = 14, 15
_TYPES = {  # of stored numbers
    **{1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4"},
    **{7: "f4", 9: "f8", 12: "i8", 13: "u8"},
}
_STRUCT, _NUMBERS = 2, range(6, 16)  # classes of matrices
_COMPLEX = 0x0800
_DEEPEST = 8  # structs in structs


class DamagedMat(Exception):
    """Raised for a file that is no .mat file of these versions, or is damaged or too large."""


def read_matrices(content: bytes, most_bytes: int) -> dict[tuple[str, ...], np.ndarray]:
    """Reads all real matrices of two dimensions, also those in structs of one element.

    Args:
      content: The bytes of the file.
      most_bytes: What it may unpack to.

    Returns:
      Names, from that of the variable to that of the innermost field -> numbers [rows, columns].

    Raises:
      DamagedMat: See there.
    """
    if content[_ORDER] not in (b"IM", b"MI"):
        raise DamagedMat
    order = "<" if content[_ORDER] == b"IM" else ">"
    found: dict[tuple[str, ...], np.ndarray] = {}
    for element in _Elements(content[_HEADER_BYTES:], order):
        if element.kind == _COMPRESSED:
            unpacked = _unpack(element.data, most_bytes)
            most_bytes -= len(unpacked)
            for inner in _Elements(unpacked, order):
                _add_matrix(inner, (), found, order)
        else:
            _add_matrix(element, (), found, order)
    return found


@dataclasses.dataclass(frozen=True)
class _Element:
    kind: int
    data: bytes

    def numbers(self, order: str) -> np.ndarray:
        """Returns its numbers, [count]."""
        if self.kind not in _TYPES:
            raise DamagedMat
        dtype = np.dtype(order + _TYPES[self.kind])
        if len(self.data) % dtype.itemsize:
            raise DamagedMat
        return np.frombuffer(self.data, dtype)


class _Elements:
    """The elements that lie one behind the other in some bytes."""

    def __init__(self, content: bytes, order: str):
        self._content, self._order, self._position = content, order, 0

    def __iter__(self) -> Iterator[_Element]:
        while self._position < len(self._content):
            yield self.next()

    def next(self) -> _Element:
        """Reads the next one; raises DamagedMat if it is not there."""
        start, tag = self._position, self._content[self._position : self._position + 8]
        if len(tag) < 8:
            raise DamagedMat
        kind, size = np.frombuffer(tag, f"{self._order}u4").tolist()
        if kind >> 16:  # up to four bytes lie in the tag
            kind, size, begin = kind & 0xFFFF, kind >> 16, start + 4
            self._position = start + 8
            if size > 4:
                raise DamagedMat
        else:
            begin = start + 8
            padding = 0 if kind == _COMPRESSED else -size % 8
            self._position = begin + size + padding
        data = self._content[begin : begin + size]
        if len(data) < size:
            raise DamagedMat
        return _Element(kind, data)


def _add_matrix(
    element: _Element,
    path: tuple[str, ...],
    found: dict[tuple[str, ...], np.ndarray],
    order: str,
) -> None:
    """Adds a matrix, or those in a struct; other classes are passed over."""
    if element.kind != _MATRIX or not element.data:
        return
    parts = _Elements(element.data, order)
    flags = parts.next().numbers(order)
    sides = [int(side) for side in parts.next().numbers(order)]
    name = parts.next().data.decode("latin-1")
    if not flags.size or len(path) > _DEEPEST:
        raise DamagedMat
    kind, here = int(flags[0]) & 0xFF, (*path, name) if name else path
    if kind == _STRUCT and math.prod(sides) == 1:
        length = parts.next().numbers(order)
        names = parts.next().data
        if length.size != 1 or not 0 < length[0] <= max(len(names), 1):
            raise DamagedMat
        for start in range(0, len(names), int(length[0])):
            field = names[start : start + int(length[0])].split(b"\0")[0].decode("latin-1")
            _add_matrix(parts.next(), (*here, field), found, order)
    elif kind in _NUMBERS and not int(flags[0]) & _COMPLEX and len(sides) == 2:
        numbers = parts.next().numbers(order)
        if min(sides) < 0 or numbers.size != math.prod(sides):
            raise DamagedMat
        if here in found:
            raise DamagedMat
        found[here] = numbers.reshape(sides, order="F")


def _unpack(packed: bytes, most_bytes: int) -> bytes:
    unpack = zlib.decompressobj()
    try:
        unpacked = unpack.decompress(packed, max(most_bytes, 0) + 1)
    except zlib.error as error:
        raise DamagedMat from error
    if len(unpacked) > most_bytes:
        raise DamagedMat("unpacks to more than a mask needs")
    if not unpack.eof:
        raise DamagedMat
    return unpacked
