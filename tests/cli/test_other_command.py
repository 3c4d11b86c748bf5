import os
import subprocess
import sys

import pytest

from petseg.cli import other_command


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a script that is called like a module of Python."""
    (tmp_path / "random.py").write_text("raise SystemExit('the script of the user')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    elsewhere = [path for path in sys.path if path and os.path.realpath(path) != str(tmp_path)]
    monkeypatch.setattr(sys, "path", elsewhere)
    return tmp_path


def status_of(line):
    return subprocess.run(line, check=False, capture_output=True, timeout=300).returncode


def test_a_script_in_the_current_folder_is_not_taken_for_the_librarys(folder):
    assert status_of(other_command.command_line("tempfile")) == 0  # which imports random


@pytest.mark.parametrize("entry", ["", "."])
def test_what_this_process_imports_from_the_current_folder_the_other_does_too(
    folder, monkeypatch, entry
):
    (folder / "mine.py").write_text("import sys; sys.exit(int(sys.argv[1]))")
    monkeypatch.setattr(sys, "path", [entry, *sys.path])
    assert status_of(other_command.command_line("mine", "7")) == 7
