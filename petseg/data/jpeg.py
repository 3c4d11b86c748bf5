"""Checks whether a JPEG is complete, by TensorFlow's decoder and by what libjpeg prints.

If data are missing in the middle of a file, libjpeg prints so on standard error and fills the
rest with grey; TensorFlow returns the result without an error.
"""

import contextlib
import functools
import os
import sys
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from petseg import standard_error

_REDUCTION = 8  # at 1/8 scale the whole bit stream is read, in two thirds of the time
_COMPLAINTS = (
    "Corrupt JPEG data: ",
    "Premature end of JPEG file",
    "Inconsistent progression sequence",
    "Invalid SOS parameters",
)
_TENSORFLOWS_SOURCE = "jpeg_mem.cc"  # in lines about errors that are raised as well


class DamagedJpeg(Exception):
    """Raised for a JPEG that is not complete; the message says why."""


def decode_small(content: bytes, reduction: int = _REDUCTION) -> np.ndarray:
    """Decodes a JPEG at a fraction of its scale, as grey.

    At 1/8 it finds the same faults as at full scale (a test compares them).

    Args:
      content: The bytes of the file.
      reduction: 1, 2, 4 or 8.

    Returns:
      uint8 [height / reduction, width / reduction], sizes rounded up.

    Raises:
      DamagedJpeg: The file cannot be decoded, or libjpeg says that it is corrupt.
    """
    with complaints() as lines:
        try:
            grey = decode_grey(content, reduction)
        except tf.errors.InvalidArgumentError as error:
            raise DamagedJpeg("it cannot be decoded") from error
    if lines:
        raise DamagedJpeg(lines[0])
    return np.asarray(grey)[..., 0]


def decode_grey(content: bytes | tf.Tensor, reduction: int = _REDUCTION) -> tf.Tensor:
    """What decode_small calls, without its checks: uint8 [height, width, 1] of a string."""
    return tf.io.decode_jpeg(content, channels=1, ratio=reduction)


@contextlib.contextmanager
def complaints() -> Iterator[list[str]]:
    """Collects libjpeg's complaints within the context; the list is filled when it ends.

    What else C libraries print is printed then.
    """
    lines: list[str] = []
    standard_error.open_if_closed()
    captured = _capture_file(os.getpid())
    stderr = os.dup(2)
    os.dup2(captured, 2)
    try:
        yield lines
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        if size := os.fstat(captured).st_size:
            printed = os.pread(captured, size, 0).decode(errors="replace").splitlines()
            os.ftruncate(captured, 0)
            os.lseek(captured, 0, os.SEEK_SET)
            for line in printed:
                if line.startswith(_COMPLAINTS):
                    lines.append(line.removeprefix(_COMPLAINTS[0]))
                elif _TENSORFLOWS_SOURCE not in line:
                    print(line, file=sys.stderr)


@functools.cache
def _capture_file(pid: int) -> int:
    """Opens a file for each process, because a forked one would share its offset."""
    del pid
    return standard_error.unnamed_file()
