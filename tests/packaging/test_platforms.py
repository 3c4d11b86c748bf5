"""What Linux alone has is not needed."""

import pytest
from testing.commands import run_python

# As on macOS and Windows, in a process that has imported nothing yet.
_PROGRAM = """
import importlib, os, pkgutil, sys, warnings
warnings.simplefilter("ignore")  # filelock says that its locks are files
sys.modules["fcntl"] = None
del os.sched_getaffinity
from petseg.cli import command
sys.path.append("tests")
import petseg
from petseg import UserError, locks
from testing.configs import make_tiny_config

for module in pkgutil.walk_packages(petseg.__path__, "petseg."):
    # The commands define flags of the same names, and the six shims are no modules to import.
    if module.name.count(".") > 1 and not module.name.startswith("petseg.cli."):
        importlib.import_module(module.name)

raw, root = sys.argv[1:]
petseg.convert(raw, root + "/records", workers=1, show_progress=False)
config = make_tiny_config(root + "/records")
config.train.epochs, config.train.bottleneck_seconds = 0.2, 0.01
run = petseg.train(config, root + "/run")
print([figures["step"] for figures in run.history])
with locks.only_writer(root + "/lock", 0, "busy"):
    try:
        with locks.only_writer(root + "/lock", 0, "another one writes"):
            print("two writers")
    except UserError as error:
        print(error)
"""


@pytest.mark.slow
def test_conversion_and_training_need_nothing_that_linux_alone_has(raw_pets, tmp_path):
    done = run_python("-c", _PROGRAM, raw_pets, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[0, 1]", "another one writes"]
