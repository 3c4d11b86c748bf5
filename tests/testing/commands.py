"""What tests of commands share: tiny settings, and what a user's mistake looks like."""

import subprocess
import sys
from pathlib import Path

from testing import command_processes
from testing.command_processes import ROOT

TINY = (
    "--config.data.image_size=32",
    "--config.data.batch_size=4",
    "--config.model.encoder_weights=none",
    "--config.model.encoder_width=2",
    "--config.model.encoder_convs=(1,1,1,1,1)",
    "--config.train.epochs=1",
)


def train_command(workdir: Path, data_dir: Path, *more: str) -> list[str]:
    """Arguments of python that train five steps."""
    return [
        *("-m", "petseg.train", "--config=configs/oxford_pets.py", f"--workdir={workdir}"),
        *(f"--config.data.dir={data_dir}", *TINY, *more),
    ]


def assert_one_line_error(done: subprocess.CompletedProcess, status: int, *expected: str) -> None:
    """A command ended with a status and one line that says all of what is expected."""
    assert done.returncode == status, done.stderr
    lines = done.stderr.strip().splitlines()
    assert "Traceback" not in done.stderr
    assert lines[-1].startswith("error: ")
    for text in expected:
        assert text in lines[-1]


def run_module(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    """What `python arguments...` does in the repository's root, and says."""
    return command_processes.run([*map(str, arguments)], environment)


def run_python(*arguments: object) -> subprocess.CompletedProcess:
    """The same in a new python, where loading matters."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
