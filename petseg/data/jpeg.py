"""Is a JPEG whole? What TensorFlow's decoder raises, and what libjpeg merely prints.

Of data that are missing in the middle of a file libjpeg says so on standard error alone,
fills up with grey and goes on; TensorFlow passes the result on as if all were well.
"""

import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

_REDUCTION = 8  # at 1/8 scale the whole bit stream is read, for two thirds of the price
_COMPLAINTS = (
    "Corrupt JPEG data: ",
    "Premature end of JPEG file",
    "Inconsistent progression sequence",
    "Invalid SOS parameters",
)
_TENSORFLOWS_OWN = "jpeg_mem.cc"  # what is raised as well


class DamagedJpeg(Exception):
    """A JPEG that is not whole; the message says why."""


def decode_small(content: bytes, reduction: int = _REDUCTION) -> np.ndarray:
    """Decodes a JPEG at a fraction of its scale, as grey.

    At 1/8 it finds the faults that it finds at full scale (a test compares them).

    Args:
      content: the file.
      reduction: 1, 2, 4 or 8.

    Returns:
      uint8 [height / reduction, width / reduction], sizes rounded up.

    Raises:
      DamagedJpeg: it cannot be decoded, or libjpeg says that it is corrupt.
    """
    with _standard_error() as lines:
        try:
            grey = tf.io.decode_jpeg(content, channels=1, ratio=reduction)
        except tf.errors.InvalidArgumentError as error:
            raise DamagedJpeg("it cannot be decoded") from error
    for line in lines:
        if line.startswith(_COMPLAINTS):
            raise DamagedJpeg(line.removeprefix(_COMPLAINTS[0]))
    return np.asarray(grey)[..., 0]


@contextlib.contextmanager
def _standard_error() -> Iterator[list[str]]:
    """Holds back what C libraries print; gives the lines once the context has ended.

    Lines that are not about a JPEG are passed on.
    """
    lines: list[str] = []
    held = _held_back(os.getpid())
    stderr = os.dup(2)
    os.dup2(held, 2)
    try:
        yield lines
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        if size := os.fstat(held).st_size:
            lines += os.pread(held, size, 0).decode(errors="replace").splitlines()
            os.ftruncate(held, 0)
            os.lseek(held, 0, os.SEEK_SET)
            for line in lines:
                if not line.startswith(_COMPLAINTS) and _TENSORFLOWS_OWN not in line:
                    print(line, file=sys.stderr)


@functools.cache
def _held_back(pid: int) -> int:
    """A file of this process's own: a forked one would share its place."""
    del pid
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
