"""Statuses, one-line errors and files of the commands. Each test starts real processes."""

import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from testing.command_processes import ROOT
from testing.commands import assert_one_line_error, run_module, run_python, train_command
from testing.waiting import wait_until

from petseg import config_rules, recipes
from petseg.run_dir import checkpoints


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config.data.btch_size=4"], ["config.data.btch_size", "config.data.batch_size"]),
        (["--noconfig.data.verify_hash"], ["config.data.verify_hash", "config.data.verify_hashes"]),
        (["--config.data.batch_size=four"], ["batch_size", "four"]),
        (["--config.data.batch_size=0"], ["config.data.batch_size=0", "between 1 and 1,000,000"]),
        (["--config.data.image_size=100"], ["config.data.image_size=100", "multiple of 32"]),
        (["--config.data.image_size=64x100"], ["config.data.image_size=(64, 100)", "multiple of"]),
        (
            ["--config.model.decoder=fcn4s"],
            ["decoder='fcn4s'", "fcn16s, fcn8s, fcn2s"],
        ),
        (["--config.devices.strategy=mirrored"], ["strategy=mirrored", "cpu_replicas"]),
        (
            [
                "--config.devices.strategy=mirrored",
                "--config.devices.cpu_replicas=2",
                "--config.data.batch_size=5",
            ],
            ["config.data.batch_size=5", "2 replicas", "4 or 6"],
        ),
        (["--config.data.label_map=pet=1;rest=2"], ["config.data.label_map", "values 3"]),
        (
            ["--config.model.encoder_weights=absent.h5"],
            ["encoder_weights=", "absent.h5", "no such"],
        ),
        (["stray"], ["'stray'"]),
        (["--unknown=1"], ["unknown"]),
    ],
)
def test_a_wrong_command_is_one_line_and_status_2(data_dir, tmp_path, arguments, expected):
    done = run_module(*train_command(tmp_path / "run", data_dir, *arguments))
    assert_one_line_error(done, 2, *expected)
    assert not list(tmp_path.rglob("ckpt*"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["-m", "petseg.train", "--config=configs/absent.py", "--workdir=x"],
            "absent.py is no file",
        ),
        (
            ["-m", "petseg.train", "--config=oxford_cats", "--workdir=x"],
            "--config=oxford_cats is no file and no recipe; did you mean oxford_pets? ",
        ),
        (
            ["-m", "petseg.train", "--config=pyproject.toml", "--workdir=x"],
            "--config=pyproject.toml is not Python, line 3",
        ),
        (["-m", "petseg.train", "--config=oxford_pets"], "config.data.dir is missing"),
        (["-m", "petseg.evaluate", "--workdir=absent"], "absent"),
        (["-m", "petseg.predict", "--workdir=absent", "--output_dir=x"], "at least one picture"),
        (["-m", "petseg.export", "--workdir=absent", "--output_dir=x"], "absent"),
        (["-m", "petseg.evaluate", "--workdir=docs", "--scales="], "--scales is empty"),
        (["-m", "petseg.evaluate", "--workdir=docs", "--scales=1,x"], "--scales: 'x' must be"),
        (
            ["-m", "petseg.predict", "--workdir=docs", "--output_dir=x", "--write=", "b"],
            "--write is empty",
        ),
        (
            ["-m", "petseg.predict", "--workdir=docs", "--output_dir=x", "--rle_classes=pet", "b"],
            "--rle_classes is for --write=rle",
        ),
        (
            [
                *("-m", "petseg.predict", "--workdir=docs", "--output_dir=x", "--write=rle"),
                *("--rle_columns=img", "b"),
            ],
            "--rle_columns=img must be the names of three columns",
        ),
        (
            ["-m", "petseg.predict", "--workdir=docs", "--output_dir=x", "--min_area_px=-1", "b"],
            "min_area_px=-1 must be 0 or more pixels",
        ),
        (
            ["-m", "petseg.evaluate", "--workdir=docs", "--smooth_sigma_px=nan"],
            "smooth_sigma_px=nan must be from 0 to 100 pixels",
        ),
        (["tools/convert.py", "--output_dir=x"], "raw_dir"),
        (
            ["tools/convert.py", "--raw_dir=absent", "--output_dir=x"],
            "--raw_dir=absent: there is no",
        ),
    ],
)
def test_every_command_reports_what_is_wrong(arguments, expected):
    assert_one_line_error(run_module(*arguments), 2, expected)
    assert not (ROOT / "x").exists()


def test_a_workdir_that_is_a_file_is_one_line(data_dir, tmp_path):
    (tmp_path / "run").write_text("not a folder")
    done = run_module(*train_command(tmp_path / "run", data_dir))
    assert_one_line_error(done, 2, str(tmp_path / "run"))
    assert (tmp_path / "run").read_text() == "not a folder"


@pytest.mark.slow
def test_evaluate_prints_a_table_and_one_json_line(run_dir):
    done = run_module("-m", "petseg.evaluate", f"--workdir={run_dir}", "--split=test")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report == json.loads((run_dir / "evaluation" / "test.json").read_text())
    assert (report["split"], report["images"], report["checkpoint_step"]) == ("test", 4, 5)
    assert report["pixels"] == 4 * 32 * 32
    assert list(report["iou"]) == list(report["dice"]) == ["pet", "background", "border"]
    for name, iou in report["iou"].items():
        row = next(line for line in done.stdout.splitlines() if line.startswith(name))
        assert ("absent" if iou is None else f"{iou:.4f}") in row
    with Image.open(report["panel"]) as panel:
        assert panel.width > 3 * 32
    history = json.loads((run_dir / "evaluation" / "validation_by_step.json").read_text())
    done = run_module("-m", "petseg.evaluate", f"--workdir={run_dir}", "--nojson")
    assert done.stdout.splitlines()[-1].startswith("page: ")
    again = json.loads((run_dir / "evaluation" / "validation.json").read_text())
    assert again["mean_iou"] == pytest.approx(history["5"]["mean_iou"])


def test_a_damaged_newest_checkpoint_is_reported_and_the_one_before_is_used(run_dir, tmp_path):
    run = shutil.copytree(run_dir, tmp_path / "run")
    shutil.copytree(run / "checkpoints" / "ckpt-5", run / "checkpoints" / "ckpt-7")
    (run / "checkpoints" / "ckpt-7" / "variables.data-00000-of-00001").write_bytes(b"")
    picture = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(picture)
    done = run_module(
        *("-m", "petseg.predict", f"--workdir={run}", f"--output_dir={tmp_path / 'out'}", picture)
    )
    assert done.returncode == 0, done.stderr
    assert "ckpt-7 cannot be restored" in done.stderr
    assert (tmp_path / "out" / "a_mask.png").exists()


def test_evaluate_lists_the_splits_of_the_data_set(run_dir, tmp_path):
    done = run_module("-m", "petseg.evaluate", f"--workdir={run_dir}", "--split=tset")
    assert_one_line_error(done, 2, "no split 'tset'", "train, validation, test")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.long)],
)
def test_after_a_signal_a_run_is_saved_and_the_same_command_resumes_it(
    data_dir, tmp_path, number, status
):
    command = train_command(tmp_path / "run", data_dir, "--config.train.epochs=2000")
    started = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        # Before its first checkpoint it compiles, for longer than a signal waits if it must.
        saved = lambda: bool(checkpoints.saved_steps(str(tmp_path / "run")))  # noqa: E731
        wait_until(saved, "first checkpoint", lambda: started.poll() is None)
        time.sleep(float(np.random.default_rng().uniform(0, 2)))
        started.send_signal(number)
        _, errors = started.communicate(timeout=300)
    finally:
        started.kill()
    assert started.returncode == status, errors
    assert "Traceback" not in errors
    (last,) = errors.strip().splitlines()[-1:]
    step = checkpoints.saved_steps(str(tmp_path / "run"))[-1]
    assert last.startswith(f"stopped by {signal.Signals(number).name} at step {step}, saved")
    if number == signal.SIGINT:
        return
    # One epoch more than was done, so that it ends soon.
    more = f"--config.train.epochs={step * 4 / 20 + 1}"
    done = run_module(*train_command(tmp_path / "run", data_dir, more))
    assert done.returncode == 0, done.stderr
    assert f"ing at step {step} of" in done.stderr


# A layer of VGG16: its output, parameters, MFLOPs, and MiB for a batch of 16.
CONV = r"block5_conv3 +14 x 14 x 512 +2,359,808 +924\.8 +6\.1  frozen"


def test_the_model_is_printed_without_data_or_weights():
    done = run_module("-m", "petseg.train", "--config=oxford_pets", "--print_model")
    assert done.returncode == 0, done.stderr
    assert "encoder vgg16: 14,714,688 parameters" in done.stdout
    assert (
        "block5_conv3        14 x 14 x 512          2,359,808      924.8        6.1  frozen"
        in done.stdout
    )
    assert "upsample_to_image" in done.stdout
    assert re.search(r"^  encoder +14,714,688 +30\.693", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_is_valid_and_shows_its_command(name):
    module = runpy.run_path(recipes.find(name))
    config = module["get_config"]()
    config.data.dir = "records"
    config_rules.validate(config)
    assert f"petseg-train --config={name} " in module["__doc__"]


@pytest.mark.slow
def test_logs_are_quiet_whatever_is_set_for_other_programs(tmp_path, monkeypatch):
    for name in ("KERAS_BACKEND", "MPLBACKEND"):
        monkeypatch.setenv(name, "module://absent")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    settings = {"backend": "jax", "image_data_format": "channels_first", "floatx": "float16"}
    (tmp_path / "keras.json").write_text(json.dumps({**settings, "epsilon": 1e-3}))
    done = run_python("-m", "petseg.train", "--config=oxford_pets", "--print_model")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        "block5_conv3        14 x 14 x 512          2,359,808      924.8        6.1  frozen"
        in done.stdout
    )


# Runs `-m MODULE` or a script, and says what of these was loaded.
_LOADED = """
import atexit, runpy, sys
slow = ("tensorflow", "keras", "matplotlib")
atexit.register(lambda: print([m for m in slow if m in sys.modules], file=sys.stderr))
is_module = sys.argv[1] == "-m"
sys.argv = sys.argv[2:] if is_module else sys.argv[1:]
(runpy.run_module if is_module else runpy.run_path)(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["train", "--config=quickstart", "--workdir=x", "--config.data.dir=absent"],
            "--config.data.dir=absent: there is no such folder; petseg-convert makes data sets",
        ),
        (["train", "--config=quickstart", "--workdir=x"], "config.data.dir is missing"),
        (["train", "--config=quickstart", "--config.data.dir=docs"], "--workdir must name"),
        (["train", "--config=quickstart", "--draw_model_to=x"], "--draw_model_to works with"),
        (["evaluate", "--workdir=absent"], "--workdir=absent: there is no such folder; petseg-tr"),
        (["evaluate", "--workdir=docs", "--data_dir=absent"], "--data_dir=absent: there is no"),
        (["evaluate", "--workdir=docs", "--max_images=3"], "--max_images is for --proposals"),
        (["evaluate", "--workdir=docs", "x"], "unexpected argument 'x'"),
        (["export", "--workdir=absent", "--output_dir=x"], "--workdir=absent: there is no such"),
        (["predict", "--workdir=absent", "--output_dir=x", "docs"], "--workdir=absent: there is"),
        (["predict", "--workdir=docs", "--output_dir=x", "--write=a", "docs"], "'a' is not one of"),
        (
            ["verify", "docs"],
            "Folder that petseg-convert wrote; did you mean --data_dir=docs? (see",
        ),
        (
            ["verify", "mine"],
            "missing: Folder that petseg-convert wrote (see --help)",
        ),
        (["verify", "--contact_sheet", "docs"], "missing: Folder that petseg-convert wrote (see"),
        (["convert", "--raw_dir", "docs"], "--output_dir is missing: New or empty folder for the"),
        (["verify", "--data_dir=absent"], "--data_dir=absent: there is no such folder"),
        (["verify", "--data_dir=docs", "--contact_sheet=a.jpg"], "must end with .png"),
        (["convert", "--raw_dir=absent", "--output_dir=x"], "--raw_dir=absent: there is no such"),
        (["convert", "--source=folders", "--raw_dir=absent", "--output_dir=x"], "=absent: there"),
    ],
)
def test_a_mistyped_folder_is_named_before_tensorflow_is_loaded(arguments, expected):
    done = run_python("-c", _LOADED, "-m", f"petseg.{arguments[0]}", *arguments[1:])
    error, loaded = done.stderr.splitlines()
    assert (done.returncode, loaded) == (2, "[]")
    assert error.startswith("error: ") and expected in error
    assert not (ROOT / "x").exists()


@pytest.mark.parametrize(
    "command",
    [
        *(["-m", f"petseg.{name}"] for name in ("train", "evaluate", "predict", "export")),
        *(["-m", f"petseg.{name}"] for name in ("convert", "verify")),
        *([f"tools/{name}.py"] for name in ("benchmark", "quickstart", "results", "sweep")),
        ["tools/draw_toy_pets.py"],
    ],
    ids=lambda command: command[-1],
)
def test_help_shows_examples_statuses_and_the_first_flags(command):
    done = run_python("-c", _LOADED, *command, "--help")
    # TensorFlow takes seconds.
    assert (done.returncode, done.stderr) == (0, "[]\n")
    text, _, flags = done.stdout.partition("The flags that matter first:\n")
    assert re.search(r"^  (petseg-\w+|python -m petseg\.[\w.]+) (--|RUN)", text, re.MULTILINE)
    assert "tatuses:" in text
    first = flags.partition("\nThe others:")[0]
    assert 1 <= first.count("\n  --") + first.startswith("  --") <= 5
    assert max(map(len, done.stdout.splitlines())) <= 100
