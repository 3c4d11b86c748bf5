"""Standard error of services and containers: closed, and without temporary files."""

import os
import subprocess
import sys
import tempfile

import pytest
from testing.command_processes import ROOT

from petseg import standard_error

_WITHOUT = """
import os, sys
from petseg import standard_error
for _ in range(2):
    with standard_error.held_back():
        os.write(2, b"held back")
opened = os.open(os.devnull, os.O_RDONLY)
print("told to nobody", file=sys.stderr)
print("done", opened > 2)
"""


@pytest.mark.parametrize("closed", [(2,), (0, 2)])
def test_work_is_done_without_standard_error(closed):
    def close() -> None:
        for number in closed:
            os.close(number)

    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT],
        cwd=ROOT,
        preexec_fn=close,
        stdout=subprocess.PIPE,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (0, b"done True\n")


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only Linux has files in memory")
def test_lines_are_held_back_without_a_temporary_folder(capfd, monkeypatch, tmp_path):
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", None)
        patched.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "nowhere")])
        with standard_error.held_back():
            os.write(2, b"noise\n")
        silent = capfd.readouterr().err
        with pytest.raises(ValueError, match="failed"), standard_error.held_back():
            os.write(2, b"why it failed\n")
            raise ValueError("failed")
        told = capfd.readouterr().err
    assert (silent, told) == ("", "why it failed\n")
