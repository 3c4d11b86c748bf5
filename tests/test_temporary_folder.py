import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from testing.command_processes import ROOT

from petseg import temporary_folder

# Prints the folder that it got, and ends as it is told.
_PROGRAM = """
import os, signal, sys, tempfile
from petseg import temporary_folder
temporary_folder.use_own()
open(os.path.join(tempfile.mkdtemp("tfds"), "file"), "w").close()
print(tempfile.gettempdir(), flush=True)
if sys.argv[1] == "wait":
    sys.stdin.read()
elif sys.argv[1] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
elif sys.argv[1] == "os._exit":
    os._exit(3)
"""
_COMMAND = """
import pathlib, tempfile
from petseg.cli import command
import tensorflow as tf

@tf.function
def double(x):
    return 2 * x if x > 0 else x

def main(arguments):
    double(tf.constant(1))
    found = [path.name for path in pathlib.Path(tempfile.gettempdir()).iterdir()]
    print(sum(name.startswith("__autograph_generated_file") for name in found))

command.run(main, ())
"""


def _start(system, how, program=("-c", _PROGRAM)):
    environment = {**os.environ, "TMPDIR": str(system), "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    command = [sys.executable, *program, how]
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)


def _run(system, how):
    process = _start(system, how)
    out, _ = process.communicate(timeout=300)
    return out.strip(), process.returncode


@pytest.mark.slow
def test_a_command_leaves_nothing_of_tensorflow_behind(tmp_path):
    system = tmp_path / "system"
    system.mkdir()
    (tmp_path / "command.py").write_text(_COMMAND)
    process = _start(system, "--", [str(tmp_path / "command.py")])
    out, _ = process.communicate(timeout=300)
    assert int(out) >= 1
    assert process.returncode == 0
    assert not list(system.iterdir())


def test_a_process_that_ends_by_itself_leaves_nothing(tmp_path):
    folder, status = _run(tmp_path, "end")
    assert status == 0
    assert folder.startswith(f"{tmp_path}/petseg-tmp-")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("how", "status"), [("kill", -signal.SIGKILL), ("os._exit", 3)])
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path, how, status):
    folder, ended = _run(tmp_path, how)
    assert ended == status
    assert [str(path) for path in tmp_path.iterdir()] == [folder]
    _run(tmp_path, "end")
    assert not list(tmp_path.iterdir())


def test_the_folder_of_a_process_that_runs_is_left(tmp_path):
    process = _start(tmp_path, "wait")
    folder = process.stdout.readline().strip()
    _run(tmp_path, "kill")
    _run(tmp_path, "end")
    assert [str(path) for path in tmp_path.iterdir()] == [folder]
    assert len(os.listdir(folder)) == 2  # its lock, and what it wrote
    process.communicate("", timeout=300)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["petseg-run", "petseg-tmp-mine"])
def test_a_folder_of_the_user_s_is_left(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "lock").write_text("of a run")
    _run(tmp_path, "end")
    assert (tmp_path / name / "lock").read_text() == "of a run"


def test_without_a_folder_to_write_to_the_command_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    temporary_folder.use_own()
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("memory", [True, False])
def test_where_no_disk_can_be_written_to_temporary_files_lie_in_memory(
    tmp_path, monkeypatch, memory
):
    if memory:
        (tmp_path / "memory").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", None)
        patched.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "nowhere")])
        patched.setattr(temporary_folder, "_IN_MEMORY", tmp_path / "memory")
        patched.setenv("TMPDIR", "")
        try:
            temporary_folder.use_memory_if_needed()
            temporary_folder.use_own()
            found = tempfile.gettempdir(), os.environ["TMPDIR"]
        except SystemExit as end:
            found = end.code
    if memory:
        assert Path(found[0]).parent == tmp_path / "memory"
        assert found[1] == found[0]
    else:
        assert found == (
            f"error: No usable temporary directory found in ['{tmp_path}/nowhere']; set TMPDIR to "
            "a folder that can be written to"
        )
