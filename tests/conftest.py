"""What several tests share: toy pets, raw and converted, and the real data if it is there."""

import io
import shutil
import subprocess
import sys
from pathlib import Path

import commands
import processes_of_commands
import pytest
from PIL import Image

from petseg import command_line  # noqa: F401  isort: skip  (quiets TensorFlow)
from processes_of_commands import ROOT

from petseg import output_folder, shard_files
from petseg.config import Config
from petseg.conversion import oxford_iiit_pet
from petseg.conversion.prepare import Settings
from petseg.conversion.write_dataset import Runner, write_dataset
from petseg.manifest import Manifest

SHARED = ROOT.parent / "shared" / "data"
sys.path.insert(0, str(ROOT / "tools"))

import draw_toy_pets


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real pets and VGG16 weights."""
    if not (SHARED / "README.md").exists():
        pytest.skip(f"real data is not there: {SHARED}")
    return SHARED


def convert(raw: Path, output: Path, **changes) -> Manifest:
    """Converts a pets folder as tools/convert.py does, in this process."""
    fraction = changes.pop("validation_fraction", 0.25)
    changes = {"source": {"source": "oxford_iiit_pet", "split_by": ""}, **changes}
    return write(
        lambda: oxford_iiit_pet.list_oxford_iiit_pet(
            str(raw), fraction, f"{output}/{shard_files.WORK_DIR}"
        ),
        output,
        **changes,
    )


def write(list_source, output: Path, **changes) -> Manifest:
    """Converts what a function lists, in this process and without a progress bar."""
    arguments = {"name": "pets", "source": {"split_by": ""}, "shard_mib": 0.05}
    arguments |= {"fail_on_bad": False, "runner": Runner(show_progress=False)}
    settings = {"validate": "full", "short_side_px": 0, "jpeg_quality": 95}
    settings |= {key: changes.pop(key) for key in list(changes) if key in settings}
    with output_folder.claim(str(output)):
        listing = list_source()
        return write_dataset(
            listing,
            str(output),
            settings=Settings(listing.masks, **settings),
            **{**arguments, **changes},
        )


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
def run_dir(data_dir, tmp_path_factory) -> Path:
    """A run folder made by the command itself, with all that TensorBoard can be told."""
    folder = tmp_path_factory.mktemp("commands") / "run"
    told = ["--config.train.histograms=True", "--config.train.profile_steps=2,4"]
    told += ["--config.train.log_every_steps=2"]
    done = run_module(*commands.train_command(folder, data_dir, *told))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def tiny_config(data_dir) -> Config:
    """Settings that train in seconds."""
    config = Config()
    config.data.dir = str(data_dir)
    config.data.image_size = 32
    config.data.batch_size = 4
    config.model.backbone_weights = "none"
    config.model.backbone_width = 2
    config.model.backbone_convs = (1, 1, 1, 1, 1)
    config.train.epochs = 2.0
    config.optimizer.warmup_steps = 2
    config.train.log_every_steps = 2
    config.train.panel_images = 2
    config.train.doctor_seconds = 0.0
    return config


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    """A picture as the bytes of a file of that kind."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def run_module(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    """What `python arguments...` does in the repository's root, and says."""
    return processes_of_commands.run([*map(str, arguments)], environment)


def run_python(*arguments: object) -> subprocess.CompletedProcess:
    """The same in a new python, where loading matters."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
