"""Commands in processes of their own that need not load TensorFlow anew each time.

A server has loaded it, and has no threads yet; each command is a fork of it. That is what
starting python gives, four seconds sooner.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path

from petseg import standard_error

ROOT = Path(__file__).parents[2]
_PRELOADED = (
    "petseg.conversion.sources.tfds_dataset",
    "petseg.training.trainer",
    "petseg.exporting.export_model",
    "petseg.inference.predict_files",
    "petseg.evaluation.evaluate_split",
)
_TIMEOUT_S = 1200
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(_PRELOADED))


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess:
    """Runs what `python arguments...` would: -m MODULE ..., or a script."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = start(arguments, environment, out, err)
        try:
            status = process.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise TimeoutError(f"{error}; {err.read_text()}") from error
        told = [path.read_text(errors="surrogateescape") for path in (out, err)]
    return subprocess.CompletedProcess(list(arguments), status, *told)


def start(
    arguments: Sequence[str], environment: Mapping[str, str], out: Path, err: Path
) -> "CommandProcess":
    """Starts what `python arguments...` would, which appends to two files, or to one."""
    _start_server()
    process = _context.Process(target=_run, args=(list(arguments), dict(environment), out, err))
    process.start()
    return CommandProcess(process)


class CommandProcess:
    """A started command, with the methods of subprocess.Popen that tests use."""

    def __init__(self, process: multiprocessing.Process):
        """Of a process that was started."""
        self._process = process

    def poll(self) -> int | None:
        """Its status; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its status, once it has ended; raises TimeoutExpired after so many seconds."""
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return self.poll()

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Kills it and waits for its end."""
        self.send_signal(signal.SIGKILL)
        self._process.join()


def _start_server() -> None:
    """Starts the server, unless it runs; what TensorFlow prints while it loads goes nowhere."""
    with standard_error.held_back():
        forkserver.ensure_running()


def _run(arguments: list[str], environment: dict[str, str], out: Path, err: Path) -> None:
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.update(environment)
    os.chdir(ROOT)
    # Python itself reads it only when it starts.
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.stdin = open(os.devnull)  # noqa: SIM115  (the process's own, to its end)
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            sys.path.insert(0, "")
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            sys.path.insert(0, str(Path(arguments[0]).parent))
            runpy.run_path(arguments[0], run_name="__main__")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
