"""Pictures that are stored decoded, yet as PNGs that every reader reads: PNGs without compression.

Each row of pixels is one stored block of the zlib stream, so all rows take the same number of
bytes, and where a pixel lies follows from the picture's sides: nothing needs to be decoded.
Formats: PNG, third edition (W3C); zlib, RFC 1950; deflate, RFC 1951.
"""

import struct
import zlib

import numpy as np

FORMAT = b"png"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2}  # channels -> grey, RGB
_ZLIB_HEADER = b"\x78\x01"  # deflate with a window of 32 KiB, compressed as fast as can be
_BLOCK_BYTES, _FILTER_BYTES = 5, 1
_MOST_IN_BLOCK = 65535
_CHUNK = struct.Struct(">I4s")
_CRC = struct.Struct(">I")
_END = _CHUNK.pack(0, b"IEND") + _CRC.pack(zlib.crc32(b"IEND"))

# Before the pixels of each row: the head of its block, and its filter, which is none.
ROW_HEAD_BYTES = _BLOCK_BYTES + _FILTER_BYTES
# Before the first row: the signature, the chunk IHDR, the heads of the chunk IDAT and of zlib.
HEAD_BYTES = len(_SIGNATURE) + _CHUNK.size + 13 + _CRC.size + _CHUNK.size + len(_ZLIB_HEADER)
# Behind the last row: a checksum of zlib's, the one of the chunk IDAT, the chunk IEND.
TAIL_BYTES = 2 * _CRC.size + len(_END)
MOST_COLUMNS = (_MOST_IN_BLOCK - _FILTER_BYTES) // 3


def encode(pixels: np.ndarray) -> bytes:
    """Encodes a picture as PNG without compression.

    Args:
      pixels: uint8 [height, width], grey, or [height, width, 3], RGB; none empty, of at most
        MOST_COLUMNS columns.

    Returns:
      HEAD_BYTES, then for each row ROW_HEAD_BYTES and its pixels, then TAIL_BYTES.

    Raises:
      ValueError: It has too many columns.
    """
    height, width, channels = (*pixels.shape, 1)[:3]
    if width > MOST_COLUMNS:
        raise ValueError(f"a row of {width:,} pixels is longer than {MOST_COLUMNS:,}")
    in_block = _FILTER_BYTES + width * channels
    rows = np.zeros((height, _BLOCK_BYTES + in_block), np.uint8)
    rows[-1, 0] = 1  # the last block
    rows[:, 1:_BLOCK_BYTES] = np.frombuffer(
        struct.pack("<HH", in_block, in_block ^ _MOST_IN_BLOCK), np.uint8
    )
    rows[:, ROW_HEAD_BYTES:] = pixels.reshape(height, -1)
    checksum = zlib.adler32(np.ascontiguousarray(rows[:, _BLOCK_BYTES:]))
    sides = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    data = b"".join((_ZLIB_HEADER, rows.tobytes(), _CRC.pack(checksum)))
    return b"".join((_SIGNATURE, _chunk(b"IHDR", sides), _chunk(b"IDAT", data), _END))


def decode(content: bytes, channels: int) -> np.ndarray:
    """Reads back what encode wrote, and compares every byte, checksums included.

    Args:
      content: The picture.
      channels: 1 or 3.

    Returns:
      uint8 [height, width, channels].

    Raises:
      ValueError: It is anything else.
    """
    if len(content) < HEAD_BYTES + TAIL_BYTES:
        raise ValueError("it is too short")
    width, height = struct.unpack_from(">II", content, len(_SIGNATURE) + _CHUNK.size)
    row_bytes = ROW_HEAD_BYTES + width * channels
    if len(content) != HEAD_BYTES + height * row_bytes + TAIL_BYTES or not height * width:
        raise ValueError("its length does not follow from its sides")
    rows = np.frombuffer(content, np.uint8)[HEAD_BYTES:-TAIL_BYTES].reshape(height, row_bytes)
    pixels = rows[:, ROW_HEAD_BYTES:].reshape(height, width, channels)
    if width > MOST_COLUMNS or encode(pixels) != content:
        raise ValueError("its bytes are not those of its pixels")
    return pixels


def _chunk(kind: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(data, zlib.crc32(kind))
    return b"".join((_CHUNK.pack(len(data), kind), data, _CRC.pack(crc)))
