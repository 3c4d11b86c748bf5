"""Only regular files are read, and not more of them than is taken."""

import os
import socket

import pytest

from petseg.data import regular_file


def test_a_file_or_a_part_of_it_is_read(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(range(100)))
    (tmp_path / "link").symlink_to(path)
    assert regular_file.read_regular(path) == bytes(range(100))
    assert regular_file.read_regular(str(tmp_path / "link"), 10, 5) == bytes(range(10, 15))
    assert regular_file.read_regular(path, 95, 50) == bytes(range(95, 100))


@pytest.mark.parametrize("kind", ["a FIFO", "a device", "a socket", "a folder"])
@pytest.mark.parametrize("is_linked", [False, True])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, kind, is_linked):
    path = tmp_path / "a.png"
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "a FIFO":
            os.mkfifo(path)
        elif kind == "a device":
            path = "/dev/zero"
        elif kind == "a folder":
            path.mkdir()
        else:
            listener.bind(str(path))
        if is_linked:
            (tmp_path / "link").symlink_to(path)
            path = tmp_path / "link"
        with pytest.raises(OSError, match=f"it is {kind}, not a regular file"):
            regular_file.read_regular(path)


def test_a_file_that_is_too_large_is_refused_but_a_part_of_it_is_read(tmp_path):
    path = tmp_path / "a"
    with path.open("wb") as file:
        file.truncate(regular_file.MAX_FILE_BYTES + 1)  # takes no space
    for read in (regular_file.read_regular, regular_file.open_regular):
        with pytest.raises(OSError, match="it has 2,147,483,649 bytes; at most 2,147,483,648"):
            read(path)
    assert regular_file.read_regular(path, 1 << 30, 3) == b"\0\0\0"
