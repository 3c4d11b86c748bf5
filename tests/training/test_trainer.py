import copy
import dataclasses
import json
import math
import os
import shutil
import signal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from testing.configs import choose_tiny_encoder
from testing.conversion import convert
from testing.encoders import OTHER_ENCODERS
from testing.events import summaries
from testing.weights import assert_same_weights, checkpoint_weights, moved_layers

from petseg import config_json, progress
from petseg.cli import results
from petseg.data import manifest
from petseg.errors import FaultFound, StoppedBySignal, UserError
from petseg.evaluation.evaluate_split import EvaluateOptions, evaluate_split
from petseg.evaluation.table import format_table
from petseg.input_pipeline import stored_examples
from petseg.run_dir import checkpoints, evaluations, run_folder
from petseg.training import trainer

TOTAL_STEPS = 10  # two epochs of 20 images in batches of 4


def test_a_run_leaves_checkpoints_figures_and_events(finished_run):
    folder, config = finished_run
    assert checkpoints.saved_steps(folder) == [5, 10]
    figures = evaluations.read_evaluations(folder)
    assert sorted(figures) == [0, 5, 10]
    for step in (0, 5, 10):
        present = [iou for iou in figures[step]["iou"].values() if iou is not None]
        assert figures[step]["mean_iou"] == pytest.approx(np.mean(present))
    train, validation = (
        [(tag, step) for tag, step, _ in summaries(f"{folder}/{name}")]
        for name in ("train", "validation")
    )
    for tag in ("loss/total", "loss/cross_entropy", "loss/dice", "rate/learning_rate",
                "input/images_per_second", "input/input_wait_fraction"):  # fmt: skip
        assert [step for name, step in train if name == tag] == [2, 4, 6, 8, 10]
    for tag in ("metrics/mean_iou", "metrics/pixel_accuracy", "panel"):
        assert [step for name, step in validation if name == tag] == [0, 5, 10]
    assert {name for name, _ in validation if name.startswith("iou/")} == {
        f"iou/{name}" for name in ("pet", "background", "border")
    }
    spelled_out = config_json.spell_out(config)
    spelled_out.data.label_map = "pet=1; background=2; border=3"
    assert run_folder.read_config(folder) == spelled_out
    assert manifest.read_manifest(folder) == manifest.read_manifest(config.data.dir)


def test_the_frozen_encoder_stays_and_the_decoder_moves(finished_run):
    folder, _ = finished_run
    assert moved_layers(folder, 5, 10) == {
        *("score_P3", "score_P4", "score_P5"),
        *("upsample_to_P3", "upsample_to_P4", "upsample_to_image"),
    }


def test_a_free_encoder_moves_too(tiny_config, tmp_path):
    tiny_config.train.trainable = "all"
    tiny_config.train.learning_rate = 1e-2
    trainer.train_and_evaluate(tiny_config, str(tmp_path))
    assert "block1_conv1" in moved_layers(tmp_path, 5, 10)


@pytest.mark.slow
def test_training_learns(tiny_config, tmp_path):
    tiny_config.data.label_map = "border_ignored"
    tiny_config.train.trainable = "all"
    tiny_config.model.encoder_width = 8
    tiny_config.train.epochs = 20.0
    tiny_config.train.learning_rate = 3e-3
    tiny_config.train.evaluate_every_epochs = 20.0
    trainer.train_and_evaluate(tiny_config, str(tmp_path))
    figures = evaluations.read_evaluations(str(tmp_path))
    assert figures[100]["mean_iou"] > figures[0]["mean_iou"] + 0.2


def train_until(stop_at, config, folder, monkeypatch, number=signal.SIGTERM):
    """Trains until a signal comes after some steps."""
    steps = []

    def advance(self, count):
        steps.extend([None] * count)
        if len(steps) >= stop_at:
            os.kill(os.getpid(), number)

    before = signal.signal(number, signal.SIG_DFL)  # a shell may have it ignored
    try:
        with monkeypatch.context() as patch, pytest.raises(StoppedBySignal) as stopped:
            patch.setattr(progress.Progress, "advance", advance)
            trainer.train_and_evaluate(config, str(folder))
    finally:
        signal.signal(number, before)
    assert stopped.value.exit_status == 128 + number
    # A call may take several steps.
    assert checkpoints.saved_steps(str(folder))[-1] == len(steps)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "encoder"),
    [
        (signal.SIGTERM, "vgg16"),
        pytest.param(signal.SIGINT, "vgg16", marks=pytest.mark.long),
        *(pytest.param(signal.SIGTERM, name, marks=pytest.mark.long) for name in OTHER_ENCODERS),
    ],
)
def test_a_stopped_run_resumes_to_the_same_end(
    finished_run, tiny_config, tmp_path, monkeypatch, number, encoder
):
    folder, _ = finished_run
    if encoder != "vgg16":
        choose_tiny_encoder(tiny_config, encoder)
        tiny_config.train.trainable = "all"
        folder = str(tmp_path / "whole")
        trainer.train_and_evaluate(copy.deepcopy(tiny_config), folder)
        tmp_path = tmp_path / "stopped"
    rng = np.random.default_rng()
    stop_at = int(rng.integers(1, TOTAL_STEPS))
    print("stopped at step", stop_at)
    train_until(stop_at, tiny_config, tmp_path, monkeypatch, number)
    trainer.train_and_evaluate(tiny_config, str(tmp_path))
    assert_same_weights(
        checkpoint_weights(str(tmp_path), TOTAL_STEPS), checkpoint_weights(folder, TOTAL_STEPS)
    )
    mine, theirs = (evaluations.read_evaluations(f) for f in (str(tmp_path), folder))
    assert sorted(mine) == sorted(theirs)
    for step in theirs:
        assert mine[step]["mean_iou"] == pytest.approx(theirs[step]["mean_iou"], abs=1e-3)
    points = [
        step
        for tag, step in [(tag, step) for tag, step, _ in summaries(f"{tmp_path}/train")]
        if tag == "loss/total"
    ]
    assert len(points) == len(set(points))


@pytest.mark.slow
def test_a_run_of_oblong_images_resumes_to_the_same_end_and_is_evaluated_as_it_was(
    tiny_config, tmp_path, monkeypatch
):
    tiny_config.data.image_size, tiny_config.data.keep_aspect = [32, 64], True
    tiny_config.augment.min_crop_area = 0.5
    tiny_config.train.epochs = 1.0
    straight, stopped = (str(tmp_path / name) for name in ("straight", "stopped"))
    trainer.train_and_evaluate(copy.deepcopy(tiny_config), straight)
    train_until(2, copy.deepcopy(tiny_config), stopped, monkeypatch)
    trainer.train_and_evaluate(copy.deepcopy(tiny_config), stopped)
    assert_same_weights(checkpoint_weights(straight, 5), checkpoint_weights(stopped, 5))
    assert run_folder.read_config(stopped).data.image_size == (32, 64)

    figures = evaluate_split(stopped, EvaluateOptions(panel_images=1))
    trained = evaluations.read_evaluations(stopped)[5]
    assert figures["mean_iou"] == pytest.approx(trained["mean_iou"], abs=1e-6)
    assert figures["image_size"] == [32, 64]
    assert "at 32x64 px" in format_table(figures)
    assert "at 32x64 px" in Path(figures["report"]).read_text()
    assert "data.image_size=32x64" in results.table([straight, stopped])
    known = manifest.read_manifest(tiny_config.data.dir)
    shards = manifest.shard_paths(tiny_config.data.dir, known.splits["validation"])
    sides = [original.mask.shape for original in stored_examples.read_originals(shards)]
    # Letterboxed, and its padding is not counted.
    scales = [min(Fraction(32, height), Fraction(64, width)) for height, width in sides]
    assert figures["pixels"] == sum(
        math.prod(math.floor(scale * side + Fraction(1, 2)) for side in pair)
        for scale, pair in zip(scales, sides, strict=True)
    )


def test_a_finished_run_stays_as_it_is(finished_run, tmp_path):
    folder, config = finished_run
    shutil.copytree(folder, tmp_path / "run")
    before = checkpoint_weights(folder, TOTAL_STEPS)
    trainer.train_and_evaluate(config, str(tmp_path / "run"))
    assert checkpoints.saved_steps(str(tmp_path / "run")) == [5, 10]
    assert_same_weights(checkpoint_weights(str(tmp_path / "run"), TOTAL_STEPS), before)


def test_a_damaged_newest_checkpoint_is_skipped_and_named(finished_run, tmp_path, capfd):
    folder, config = finished_run
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    data = run / "checkpoints" / "ckpt-10" / "variables.data-00000-of-00001"
    content = data.read_bytes()
    index = int(np.random.default_rng(0).integers(len(content)))
    data.write_bytes(content[:index] + bytes([content[index] ^ 4]) + content[index + 1 :])
    trainer.train_and_evaluate(config, str(run))
    printed = capfd.readouterr().err
    assert "ckpt-10 cannot be restored" in printed
    assert "resuming at step 5 of 10" in printed
    assert_same_weights(
        checkpoint_weights(str(run), TOTAL_STEPS), checkpoint_weights(folder, TOTAL_STEPS)
    )


def test_without_a_readable_checkpoint_it_says_so(finished_run, tmp_path):
    folder, config = finished_run
    shutil.copytree(folder, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").glob("*/*.index"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="no checkpoint can be restored"):
        trainer.train_and_evaluate(config, str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model.decoder", "fcn2s"),
        ("model.encoder_width", 3),
        ("model.decoder_channels", 16),
        ("data.label_map", "border_ignored"),
        ("data.image_size", 64),
        ("data.image_size", (32, 64)),
        ("data.batch_size", 5),
        ("augment.flip", False),
        ("train.seed", 1),
    ],
)
def test_a_run_folder_of_another_run_is_refused(finished_run, field, value):
    folder, config = finished_run
    before = sorted(os.listdir(folder)), run_folder.read_config(folder)
    other = copy.deepcopy(config)
    section, name = field.split(".")
    setattr(getattr(other, section), name, value)
    with pytest.raises(UserError, match=rf"was trained with config\.{field}=") as caught:
        trainer.train_and_evaluate(other, folder)
    assert "\n" not in str(caught.value)
    assert (sorted(os.listdir(folder)), run_folder.read_config(folder)) == before


@pytest.mark.slow
def test_a_longer_run_resumes_and_prints_what_changed(finished_run, tmp_path, capfd):
    folder, config = finished_run
    shutil.copytree(folder, tmp_path / "run")
    longer = copy.deepcopy(config)
    longer.train.epochs = 3.0
    trainer.train_and_evaluate(longer, str(tmp_path / "run"))
    assert checkpoints.saved_steps(str(tmp_path / "run")) == [5, 10, 15]
    assert "config.train.epochs: 2.0 before, 3.0 from now on" in capfd.readouterr().err


def test_the_end_of_a_run_names_a_better_checkpoint(finished_run, tmp_path, capfd):
    folder, config = finished_run
    run = str(shutil.copytree(folder, tmp_path / "run"))
    figures = evaluations.read_evaluations(run)
    done = f"done: {run}; next: petseg-evaluate --workdir={run}"
    for before, last in ((0.75, 0.25), (0.75, 0.75)):
        for step, value in ((5, before), (10, last)):
            evaluations.add_evaluation(run, step, {**figures[step], "mean_iou": value})
            checkpoints.add_metrics(run, step, {"mean_iou": value})
        trainer.train_and_evaluate(copy.deepcopy(config), run)
        lines = capfd.readouterr().err.splitlines()
        assert "trained before, to step 10; for more: config.train.epochs" in lines
        if before == last:
            assert lines[-1] == done
        else:
            assert lines[-2] == done
            assert lines[-1].endswith("the best mean_iou, 0.7500, was at step 5: --checkpoint=best")


def test_another_data_set_is_refused(finished_run, raw_pets, tmp_path):
    folder, config = finished_run
    convert(raw_pets, tmp_path / "other", validation_fraction=0.5)
    other = copy.deepcopy(config)
    other.data.dir = str(tmp_path / "other")
    with pytest.raises(UserError, match="another data set"):
        trainer.train_and_evaluate(other, folder)


@pytest.fixture
def copied_data(tiny_config, data_dir, tmp_path):
    """A copy of the data set to damage, and a config that reads it."""
    shutil.copytree(data_dir, tmp_path / "data")
    tiny_config.data.dir = str(tmp_path / "data")
    return tmp_path / "data", tiny_config


def first_shard(folder):
    return folder / manifest.read_manifest(str(folder)).splits["train"].shards[0].name


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "manifest.json").unlink(), r"has no manifest\.json"),
        (shutil.rmtree, "no such data set folder"),
        (lambda d: first_shard(d).unlink(), "00000-of-0000. is missing"),
        (lambda d: first_shard(d).write_bytes(b""), "has 0 bytes"),
        (lambda d: first_shard(d).write_bytes(first_shard(d).read_bytes()[:-7]), "bytes, its man"),
    ],
)
def test_a_damaged_data_set_is_refused_before_training(copied_data, tmp_path, damage, message):
    data, config = copied_data
    damage(data)
    with pytest.raises(UserError, match=message) as caught:
        trainer.train_and_evaluate(config, str(tmp_path / "run"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("is_hashed", [True, False])
def test_a_flipped_bit_is_traced_to_its_shard(copied_data, tmp_path, is_hashed):
    data, config = copied_data
    config.data.verify_hashes = is_hashed
    flip_a_bit(first_shard(data))
    named = (
        rf"^config.data.dir: {data}/.*train.tfrecord-00000.*differs from its manifest \(SHA-256\)"
    )
    with pytest.raises(FaultFound, match=named) as caught:
        trainer.train_and_evaluate(config, str(tmp_path / "run"))
    assert str(caught.value).isprintable()


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(finished_run, tmp_path):
    folder, config = finished_run
    shutil.copytree(folder, tmp_path / "run")
    longer = copy.deepcopy(config)
    longer.train.epochs = 4.0
    longer.train.learning_rate = 1e38
    with pytest.raises(FaultFound, match=r"the loss is (nan|inf) at step"):
        trainer.train_and_evaluate(longer, str(tmp_path / "run"))
    assert checkpoints.saved_steps(str(tmp_path / "run")) == [5, 10]
    assert_same_weights(
        checkpoint_weights(str(tmp_path / "run"), 10), checkpoint_weights(folder, 10)
    )


def test_weights_that_are_not_finite_are_never_saved(tiny_config, tmp_path):
    # A checkpoint is due before the training curves would have told.
    tiny_config.train.log_every_steps = 1000
    tiny_config.train.learning_rate = 1e38
    with pytest.raises(FaultFound, match=r"(not finite|loss is (nan|inf)) at step [2-5] "):
        trainer.train_and_evaluate(tiny_config, str(tmp_path))
    assert checkpoints.saved_steps(str(tmp_path)) == []


@pytest.mark.long
def test_a_damaged_later_checkpoint_does_not_push_out_the_one_just_saved(
    finished_run, tmp_path, monkeypatch
):
    folder, config = finished_run
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    (run / "checkpoints" / "ckpt-10" / "variables.data-00000-of-00001").write_bytes(b"")
    careful = copy.deepcopy(config)
    careful.train.keep_checkpoints = 1
    steps = []

    def advance(self, count):
        steps.extend([None] * count)
        if len(steps) >= 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(StoppedBySignal):
        patch.setattr(progress.Progress, "advance", advance)
        trainer.train_and_evaluate(careful, str(run))
    assert 7 in checkpoints.saved_steps(str(run))
    trainer.train_and_evaluate(careful, str(run))
    assert_same_weights(
        checkpoint_weights(str(run), TOTAL_STEPS), checkpoint_weights(folder, TOTAL_STEPS)
    )


def test_old_checkpoints_go_and_the_latest_stay(tiny_config, tmp_path):
    tiny_config.train.epochs = 1.2
    tiny_config.train.evaluate_every_epochs = 0.2
    tiny_config.train.keep_checkpoints = 2
    trainer.train_and_evaluate(tiny_config, str(tmp_path))
    # The latest two, and the best one.
    scores = {s: f["mean_iou"] for s, f in evaluations.read_evaluations(str(tmp_path)).items() if s}
    best = max(scores, key=scores.get)
    assert checkpoints.saved_steps(str(tmp_path)) == sorted({5, 6, best})
    for step in (5, 6, best):
        assert checkpoints.read_metadata(str(tmp_path), step).metrics["mean_iou"] == scores[step]


def test_evaluations_keep_to_epochs_that_batches_do_not_divide(tiny_config, tmp_path):
    # 20 images in batches of 3: epochs end within steps 7, 14 and 20.
    tiny_config.data.batch_size = 3
    tiny_config.train.epochs = 3.0
    trainer.train_and_evaluate(tiny_config, str(tmp_path))
    assert sorted(evaluations.read_evaluations(str(tmp_path))) == [0, 7, 14, 20]


def test_every_field_of_a_config_survives_its_file(tiny_config):
    assert config_json.from_json(config_json.to_json(tiny_config)) == tiny_config
    for section in dataclasses.fields(tiny_config):
        if section.name == "plugins":
            continue
        fields = json.loads(config_json.to_json(tiny_config))
        fields[section.name]["unknown"] = 1
        with pytest.raises(ValueError, match="unknown"):
            config_json.from_json(json.dumps(fields))
