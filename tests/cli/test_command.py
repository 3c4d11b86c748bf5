"""What all commands set up before they begin."""

import os
import subprocess
import sys

import pytest
from testing.command_processes import ROOT
from testing.commands import run_python

# TensorFlow, which would take seconds to load, has no part in what is printed.
_PRINT = """
import sys, types
sys.modules["tensorflow"] = types.ModuleType("tensorflow")
from petseg.cli import command
print(sys.argv[1])
"""


@pytest.mark.slow
def test_what_no_command_needs_is_not_loaded_with_tensorflow_and_can_be_later():
    code = (
        "import sys; from petseg.cli import command; command.import_tensorflow(); import keras\n"
        "print({'sklearn', 'scipy.stats', 'matplotlib.pyplot'} & sys.modules.keys())\n"
        "import sklearn.base, matplotlib.pyplot; print(matplotlib.pyplot.Figure.__name__)"
    )
    done = run_python("-c", code)
    assert (done.stdout, done.stderr) == ("set()\nFigure\n", "")


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", b"Stra\\xdfe \\u6728"),
        ("latin-1", b"Stra\xdfe \\u6728"),
        ("utf-8", "Straße 木".encode()),
    ],
)
def test_names_are_printed_whatever_the_encoding_of_the_output(encoding, expected):
    done = subprocess.run(
        [sys.executable, "-c", _PRINT, "Straße 木"],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"},
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert done.stdout.strip() == expected, done.stderr
