"""Grey PNG files of fewer than 8 bits a pixel, which Pillow does not write."""

import struct
import zlib

import numpy as np


def grey_png(values: np.ndarray, bits: int) -> bytes:
    """Encodes [height, width] values below 2**bits with 1, 2, 4 or 8 bits each."""
    digits = (values[..., None] >> np.arange(bits)[::-1]) & 1  # [height, width, bits]
    rows = np.packbits(digits.reshape(len(values), -1).astype(np.uint8), axis=1)
    unfiltered = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(unfiltered)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
