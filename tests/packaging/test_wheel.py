"""The wheel and the source distribution: what is in them, and that the wheel works alone."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from testing.command_processes import ROOT

import petseg

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("packaging")]
_NOT_SOURCES = shutil.ignore_patterns(
    *(".git", ".venv*", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info", "build", "dist"),
    *("quickstart", "site"),
)
_COMMANDS = (
    *("benchmark", "convert", "evaluate", "export", "predict"),
    *("quickstart", "results", "sweep", "train", "verify"),
)
_NARROW = (
    *("--config.data.image_size=32", "--config.data.batch_size=4"),
    *("--config.model.encoder_width=2", "--config.model.encoder_convs=(1,1,1,1,1)"),
    *("--config.train.epochs=1", "--config.optimizer.warmup_steps=2"),
    "--config.train.bottleneck_seconds=0",
)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from it."""
    sources = tmp_path_factory.mktemp("build") / "sources"
    shutil.copytree(ROOT, sources, symlinks=True, ignore=_NOT_SOURCES)
    _run(sources, sys.executable, "-m", "build", "--no-isolation", "--outdir=dist")
    (sdist,), (wheel,) = ((sources / "dist").glob(kind) for kind in ("*.tar.gz", "*.whl"))
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(distributions, tmp_path_factory) -> Path:
    """The programs of a new environment with the wheel; its dependencies are those here."""
    environment = tmp_path_factory.mktemp("installed") / "environment"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    _run(
        environment,
        *(sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet"),
        *("--no-index", "--no-deps", distributions[1]),
    )
    (packages,) = environment.glob("lib/python*/site-packages")
    # A path in a .pth file comes last, and .pth files below it, such as that of an editable
    # petseg, are not read.
    here = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (packages / "dependencies.pth").write_text("".join(f"{path}\n" for path in sorted(here)))
    return environment / "bin"


def test_the_wheel_holds_the_package_alone(distributions):
    with zipfile.ZipFile(distributions[1]) as wheel:
        names = wheel.namelist()
    metadata = f"petseg-{petseg.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"petseg", metadata}
    assert [name for name in names if name.endswith("LICENSE")] == [f"{metadata}/licenses/LICENSE"]
    packaged = {name for name in names if name.startswith("petseg/")}
    sources = [*ROOT.glob("petseg/**/*.py"), ROOT / "petseg" / "py.typed"]
    assert packaged == {path.relative_to(ROOT).as_posix() for path in sources}
    assert "petseg/configs/oxford_pets.py" in packaged


def test_the_source_distribution_holds_what_a_clone_holds(distributions):
    with tarfile.open(distributions[0]) as archive:
        files = {member.name.partition("/")[2] for member in archive if member.isfile()}
    wanted = [
        *("README.md", "CHANGELOG.md", "LICENSE", "Makefile", "MANIFEST.in", "constraints.txt"),
        *("setup.cfg", "pyproject.toml", "ruff.toml", "mkdocs.yml", ".ci/run"),
        *("CITATION.cff", "examples/pets.ipynb", "deploy/Dockerfile", "deploy/slurm/train.sbatch"),
        *("deploy/Dockerfile.dockerignore", "deploy/kubernetes/train.yaml", "docs/deployment.md"),
        *("configs/oxford_pets.py", "petseg/configs/oxford_pets.py", "petseg/py.typed"),
        *(
            path.relative_to(ROOT).as_posix()
            for folder in ("tests", "tools", "petseg")
            for path in ROOT.glob(f"{folder}/**/*.py")
        ),
    ]
    assert not set(wanted) - files
    assert not [name for name in files if name.endswith((".pyc", ".tfrecord"))]


def test_the_wheel_installs_every_command(installed):
    assert {f"petseg-{name}" for name in _COMMANDS} == {
        path.name for path in installed.glob("petseg-*")
    }


def test_the_installed_commands_convert_train_evaluate_predict_and_export(installed, tmp_path):
    python = installed / "python"
    where = _run(tmp_path, python, "-c", "import petseg; print(petseg.__file__)").strip()
    assert Path(where).is_relative_to(installed.parent)
    _run(
        tmp_path,
        *(python, "-m", "petseg.cli.draw_toy_pets", "--output_dir=raw"),
        *("--trainval_images=28", "--test_images=4"),
    )
    _run(tmp_path, installed / "petseg-convert", "--raw_dir=raw", "--output_dir=records")
    _run(
        tmp_path,
        *(installed / "petseg-train", "--config=quickstart", "--workdir=run"),
        *("--config.data.dir=records", *_NARROW),
    )
    lines = _run(tmp_path, installed / "petseg-evaluate", "--workdir=run").splitlines()
    assert json.loads(lines[-1])["images"] > 0
    image = next((tmp_path / "raw" / "images").iterdir())
    _run(
        tmp_path,
        *(installed / "petseg-predict", "--workdir=run", "--output_dir=predictions", image),
    )
    assert (tmp_path / "predictions" / f"{image.stem}_mask.png").exists()
    _run(tmp_path, installed / "petseg-export", "--workdir=run", "--output_dir=exported")
    assert list((tmp_path / "exported").rglob("saved_model.pb"))


def _run(folder: Path, *command: object) -> str:
    """Runs a command in a folder, without this process's Python path; returns its output."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    arguments = [str(part) for part in command]
    done = subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{shlex.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done.stdout
