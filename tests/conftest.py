"""What several tests share: toy pets, raw and converted, and the real data if it is there."""

import copy
import shutil
import signal
from pathlib import Path

import hypothesis
import pytest

from petseg import standard_error

standard_error.import_tensorflow()

from testing import commands
from testing.autograph import autograph_forbidden
from testing.command_processes import ROOT
from testing.configs import make_tiny_config
from testing.conversion import convert, convert_raw

from petseg.config import Config

SHARED = ROOT.parent / "shared" / "data"

# A shell ignores Ctrl-C for what it starts in the background, and tests send it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test times anything: a busy machine is no fault.
hypothesis.settings.register_profile("petseg", deadline=None)
hypothesis.settings.load_profile("petseg")

from petseg.cli import draw_toy_pets
from petseg.training import trainer


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real pets and VGG16 weights."""
    if not (SHARED / "README.md").exists():
        pytest.skip(f"real data is not there: {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def raw_pets(tmp_path_factory) -> Path:
    """28 trainval and 4 test toy pets in the official layout."""
    folder = tmp_path_factory.mktemp("raw")
    draw_toy_pets.draw_dataset(folder, trainval_images=28, test_images=4, seed=0)
    return folder


@pytest.fixture
def pets(raw_pets, tmp_path) -> Path:
    """A copy of the raw pets to damage."""
    return shutil.copytree(raw_pets, tmp_path / "raw")


@pytest.fixture(scope="session")
def data_dir(raw_pets, tmp_path_factory) -> Path:
    """The toy pets, converted to several shards: 20 train, 8 validation, 4 test."""
    folder = tmp_path_factory.mktemp("data") / "out"
    convert(raw_pets, folder)
    return folder


@pytest.fixture(scope="session")
def raw_store_dir(raw_pets, data_dir, tmp_path_factory) -> Path:
    """The same as data_dir, with --store=raw; only look at it, or copy it."""
    folder = tmp_path_factory.mktemp("raw_store") / "out"
    convert_raw(raw_pets, data_dir, folder)
    assert {p.name for p in folder.iterdir()} == {p.name for p in data_dir.iterdir()}
    return folder


@pytest.fixture(scope="session")
def run_dir(data_dir, tmp_path_factory) -> Path:
    """A run folder made by the command itself, with all that TensorBoard can be told."""
    folder = tmp_path_factory.mktemp("commands") / "run"
    told = ["--config.train.histograms=True", "--config.train.profile_steps=2,4"]
    told += ["--config.train.log_every_steps=2"]
    done = commands.run_module(*commands.train_command(folder, data_dir, *told))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def finished_run(data_dir, tmp_path_factory) -> tuple[str, Config]:
    """A run of the tiny config from start to end, and its config; only look at it, or copy it."""
    folder, config = str(tmp_path_factory.mktemp("run")), make_tiny_config(data_dir)
    with autograph_forbidden():
        trainer.train_and_evaluate(copy.deepcopy(config), folder)
    return folder, config


@pytest.fixture
def tiny_config(data_dir) -> Config:
    """Settings that train in seconds."""
    return make_tiny_config(data_dir)
