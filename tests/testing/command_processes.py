"""Commands in processes of their own that need not load TensorFlow anew each time.

A server has loaded it, and has no threads yet; each command is a fork of it. That is what
starting python gives, four seconds sooner.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PRELOADED = (
    "petseg.cli.command",
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
        process = _context.Process(target=_run, args=(list(arguments), dict(environment), out, err))
        process.start()
        process.join(_TIMEOUT_S)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"{arguments} took more than {_TIMEOUT_S} s; {err.read_text()}")
        told = [path.read_text(errors="surrogateescape") for path in (out, err)]
    return subprocess.CompletedProcess(list(arguments), process.exitcode, *told)


def _run(arguments: list[str], environment: dict[str, str], out: Path, err: Path) -> None:
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
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
