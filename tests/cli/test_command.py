"""What all commands set up before they begin."""

import os
import subprocess
import sys

import pytest
from testing.command_processes import ROOT

# TensorFlow, which would take seconds to load, has no part in what is printed.
_PRINT = """
import sys, types
sys.modules["tensorflow"] = types.ModuleType("tensorflow")
from petseg.cli import command
print(sys.argv[1])
"""


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
