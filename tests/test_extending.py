"""An encoder, a decoder, a loss, a metric and a source that petseg knows nothing of."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from testing.commands import assert_one_line_error, run_module
from testing.events import curve
from testing.weights import checkpoint_weights

from petseg.run_dir import checkpoints

EXTENSION = Path(__file__).parent / "extension"
NAMES = [
    "--config=oxford_pets", "--config.plugins=('toy_extension',)",
    "--config.model.encoder=toy_encoder", "--config.model.decoder=toy_decoder",
    "--config.model.encoder_weights=none", "--config.train.loss=squared_error",
    "--config.train.best_metric=least_iou", "--config.train.trainable=all",
    "--config.data.image_size=64", "--config.data.batch_size=6",
    "--config.train.evaluate_every_epochs=1", "--config.optimizer.warmup_steps=0",
    "--config.train.log_every_steps=1",
]  # fmt: skip


def run(*arguments: object):
    return run_module(*arguments, PYTHONPATH=str(EXTENSION))


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    """Eight pictures, dark on the left and light on the right, as their own source lists them."""
    raw = tmp_path_factory.mktemp("raw")
    rng = np.random.default_rng(0)
    for index in range(1, 9):
        mask = np.zeros((40, 48), np.uint8)
        mask[:, int(rng.integers(12, 36)) :] = 1
        noise = rng.integers(0, 60, (40, 48, 3))
        Image.fromarray((mask[..., None] * 150 + noise).astype(np.uint8)).save(raw / f"{index}.png")
        Image.fromarray(mask).save(raw / f"{index}_mask.png")
    output = tmp_path_factory.mktemp("data") / "records"
    done = run(
        *("-m", "petseg.convert", "--plugins=toy_extension", "--source=numbered"),
        *(f"--raw_dir={raw}", f"--output_dir={output}", "--workers=1"),
    )
    assert done.returncode == 0, done.stderr
    assert "every fourth is for validation" in done.stdout
    return output


def train(records: Path, folder: Path, epochs: int, *more: str):
    return run(
        *("-m", "petseg.train", *NAMES, f"--config.train.epochs={epochs}", *more),
        *(f"--config.data.dir={records}", f"--workdir={folder}"),
    )


@pytest.mark.slow
def test_one_of_each_from_outside_is_used_everywhere(records, tmp_path):
    folder = tmp_path / "run"
    assert (done := train(records, folder, 1)).returncode == 0, done.stderr
    assert "toy_decoder on toy_encoder" in done.stderr
    assert (done := train(records, folder, 2)).returncode == 0, done.stderr
    assert "resuming at step 1 of 2" in done.stderr
    assert checkpoints.saved_steps(str(folder)) == [1, 2]
    one, two = (checkpoint_weights(folder, step) for step in (1, 2))
    for name in ("toy_fine/kernel", "toy_coarse/kernel", "deep/kernel", "to_image/kernel"):
        assert (one[name] != two[name]).any(), name
    assert sorted(curve(folder / "train", "loss/squared_error")) == [1, 2]
    by_step = json.loads((folder / "evaluation" / "validation_by_step.json").read_text())
    shown = curve(folder / "validation", "metrics/least_iou")
    assert sorted(shown) == [0, 1, 2]
    for step, value in shown.items():
        figures = by_step[str(step)]
        assert value == pytest.approx(figures["least_iou"])
        assert figures["least_iou"] == pytest.approx(min(figures["iou"].values()))
    best = max((1, 2), key=lambda step: by_step[str(step)]["least_iou"])
    done = run(
        *("-m", "petseg.evaluate", f"--workdir={folder}", "--split=validation"),
        "--checkpoint=best",
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["checkpoint_step"] == best
    assert report["least_iou"] == pytest.approx(by_step[str(best)]["least_iou"], abs=1e-6)
    assert list(report["iou"]) == ["left", "right"]


def test_features_of_both_signs_are_cached(records, tmp_path):
    cached = [
        f"--config.data.feature_cache_dir={tmp_path / 'features'}",
        "--config.train.trainable=decoder",
    ]
    done = train(records, tmp_path / "run", 2, *cached)
    assert done.returncode == 0, done.stderr
    assert checkpoints.saved_steps(str(tmp_path / "run")) == [1, 2]


def test_a_plugin_that_cannot_be_imported_is_one_line(records, tmp_path):
    done = run(
        *("-m", "petseg.train", "--config=oxford_pets", "--config.plugins=('nothing_here',)"),
        *(f"--config.data.dir={records}", f"--workdir={tmp_path / 'run'}"),
    )
    assert_one_line_error(done, 2, "config.plugins: cannot import 'nothing_here'")
    done = run(
        *("-m", "petseg.convert", "--source=numbered", "--raw_dir=x", f"--output_dir={tmp_path}"),
    )
    assert_one_line_error(done, 2, "numbered")
