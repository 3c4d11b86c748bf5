"""Writes and reads TFRecord files byte by byte: frames with their checksums.

A frame is an 8-byte length, the CRC of the length, the data, the CRC of the data;
numbers are little-endian, CRCs are CRC-32C, masked (TensorFlow's record_writer.h).
petseg writes frames itself, so that a shard is hashed while it is written, and reads them
itself, so that a damaged record can be named.
"""

import dataclasses
import struct
from collections.abc import Iterator
from typing import BinaryIO

import google_crc32c

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_HEADER_BYTES = _LENGTH.size + _CRC.size
FRAME_BYTES = _HEADER_BYTES + _CRC.size  # of a frame without its data
_READ_BYTES = 8 << 20  # 8 MiB
_MASK_DELTA = 0xA282EAD8


class DamagedFrame(Exception):
    """Raised for a frame whose end is unknown, so that nothing after it can be read."""


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """One record of a file.

    Attributes:
      offset: Position of the record's data in the file, in bytes.
      data: The record.
      intact: Whether the data agree with their checksum.
    """

    offset: int
    data: bytes
    intact: bool


def frame(data: bytes) -> bytes:
    """Returns a record as it is stored in a file."""
    length = _LENGTH.pack(len(data))
    return b"".join((length, _masked_crc(length), data, _masked_crc(data)))


def read_frames(file: BinaryIO) -> Iterator[Frame]:
    """Yields every frame of an open file, in order.

    Raises:
      DamagedFrame: A length is wrong, or the file ends within a frame.
    """
    offset = 0
    while header := file.read(_HEADER_BYTES):
        length = _length(header)
        data, crc = _read(file, length), file.read(_CRC.size)
        if len(crc) < _CRC.size:
            raise DamagedFrame("the file ends within it")
        yield Frame(offset + _HEADER_BYTES, data, _masked_crc(data) == crc)
        offset += _HEADER_BYTES + length + _CRC.size


class FrameCounter:
    """Counts the frames of a file that is read in chunks, by their lengths alone.

    Attributes:
      records: Number of whole frames so far; one that is cut does not count.
    """

    def __init__(self):
        """Begins at the start of a file."""
        self.records = 0
        self._header = b""  # of the frame that begins next, as far as it is known
        self._left = 0  # bytes of the frame that are still to come

    def add(self, chunk: bytes) -> None:
        """Goes on with the next bytes of the file."""
        position = 0
        while position < len(chunk):
            if self._left:
                step = min(self._left, len(chunk) - position)
                position, self._left = position + step, self._left - step
                self.records += self._left == 0
                continue
            step = _HEADER_BYTES - len(self._header)
            self._header += chunk[position : position + step]
            position += step
            if len(self._header) == _HEADER_BYTES:
                self._left = _LENGTH.unpack_from(self._header)[0] + _CRC.size
                self._header = b""


def _read(file: BinaryIO, length: int) -> bytes:
    """Reads up to `length` bytes; never asks for more memory than the file has bytes."""
    parts = []
    while length and (part := file.read(min(length, _READ_BYTES))):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _length(header: bytes) -> int:
    if len(header) < _HEADER_BYTES:
        raise DamagedFrame("the file ends within it")
    if _masked_crc(header[: _LENGTH.size]) != header[_LENGTH.size :]:
        raise DamagedFrame("its length is damaged, so the rest cannot be read")
    return _LENGTH.unpack_from(header)[0]


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return _CRC.pack((((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF)
