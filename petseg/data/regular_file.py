"""Opens and reads files that come from outside: regular ones, of a bounded size."""

import errno
import os
import stat
from typing import BinaryIO

MAX_FILE_BYTES = 2 << 30  # 2 GiB
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def open_regular(path: str | os.PathLike, max_bytes: int | None = MAX_FILE_BYTES) -> BinaryIO:
    """Opens a local file, or what a link leads to, for reading without a buffer.

    A FIFO or a device could make the reader wait for ever, or never end.

    Args:
      path: Where it is.
      max_bytes: The largest size that is taken; None for any.

    Raises:
      OSError: It cannot be opened, is no regular file, or is too large.
    """
    # Asked before opening, which alone moves some devices; a FIFO opens without a writer.
    _check_kind(os.stat(path), path)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        _check_kind(status, path)
        if max_bytes is not None:
            _check_size(status.st_size, max_bytes, path)
        return os.fdopen(descriptor, "rb", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | os.PathLike, offset: int = 0, size: int | None = None) -> bytes:
    """Reads a local file, or a part of it.

    Args:
      path: Where it is.
      offset: The first byte.
      size: The number of bytes; None for all that the file has when it is opened.

    Raises:
      OSError: It cannot be read, is no regular file, or that is more than MAX_FILE_BYTES.
    """
    with open_regular(path, None) as file:  # a small part may be of a large archive
        if size is None:
            size = max(os.fstat(file.fileno()).st_size - offset, 0)
        _check_size(size, MAX_FILE_BYTES, path)
        if offset:
            file.seek(offset)
        content = file.read(size)
        while len(content) < size and (more := file.read(size - len(content))):
            content += more
        return content


def _check_kind(status: os.stat_result, path: str | os.PathLike) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for test, name in _KINDS if test(status.st_mode)), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", str(path))


def _check_size(size: int, max_bytes: int, path: str | os.PathLike) -> None:
    if size > max_bytes:
        reason = f"it has {size:,} bytes; at most {max_bytes:,} are read"
        raise OSError(errno.EFBIG, reason, str(path))
