"""Training on cached features: it resumes exactly, and changes nothing but the time it takes."""

import copy
import json
import os
import shutil
import signal

import pytest
from testing.autograph import autograph_forbidden
from testing.clusters import log_of, train, write_config
from testing.commands import assert_one_line_error, run_module, train_command
from testing.weights import assert_same_weights, checkpoint_weights, moved_layers

from petseg import config_rules, progress
from petseg.config import Stage, TrainConfig
from petseg.data import manifest
from petseg.errors import FaultFound, StoppedBySignal, UserError
from petseg.evaluation.evaluate_split import EvaluateOptions, evaluate_split
from petseg.run_dir import checkpoints, evaluations
from petseg.training import trainer


@pytest.fixture
def cached_config(tiny_config, tmp_path):
    tiny_config.data.feature_cache_dir = str(tmp_path / "features")
    with autograph_forbidden():
        yield tiny_config


@pytest.fixture
def staged(cached_config):
    cached_config.train.epochs = TrainConfig().epochs
    cached_config.train.stages = [Stage("decoder", 1.0, 5e-3), Stage("block4", 1.0, 2e-3)]
    cached_config.model.dropout_rate = 0.2
    cached_config.optimizer.average_decay = 0.9
    return cached_config


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_a_run_stopped_in_any_stage_resumes_to_the_same_end(staged, tmp_path, monkeypatch):
    trainer.train_and_evaluate(copy.deepcopy(staged), str(tmp_path / "straight"))
    stopped = tmp_path / "stopped"
    stops = 0
    while stops < 20:
        taken = []

        def advance(self, count, taken=taken):
            taken.append(count)
            if sum(taken) >= 4:  # within stages and at their borders
                os.kill(os.getpid(), signal.SIGTERM)

        with monkeypatch.context() as patch:
            patch.setattr(progress.Progress, "advance", advance)
            try:
                trainer.train_and_evaluate(copy.deepcopy(staged), str(stopped))
                break
            except StoppedBySignal:
                stops += 1
    assert stops >= 2
    assert_same_weights(
        checkpoint_weights(stopped, 10), checkpoint_weights(tmp_path / "straight", 10), rtol=0
    )
    ours, theirs = (evaluations.read_evaluations(str(f)) for f in (stopped, tmp_path / "straight"))
    assert ours == theirs


@pytest.mark.slow
def test_a_stage_moves_what_it_names_and_the_whole_model_scores_the_same(staged, tmp_path):
    staged.data.feature_dtype = "float16"
    staged.train.keep_checkpoints = 9
    trainer.train_and_evaluate(staged, str(tmp_path / "run"))
    moved = moved_layers(tmp_path / "run", 5, 10)
    assert {layer for layer in moved if "block" in layer} == {"block4_conv1", "block5_conv1"}
    report = evaluate_split(str(tmp_path / "run"), EvaluateOptions())
    logged = evaluations.read_evaluations(str(tmp_path / "run"))[10]
    assert report["mean_iou"] == pytest.approx(logged["mean_iou"], abs=2e-3)


@pytest.mark.long
def test_microbatches_of_features_end_with_the_weights_of_whole_batches(cached_config, tmp_path):
    cached_config.model.dropout_rate = 0.3
    cached_config.train.trainable, cached_config.train.epochs = "block4", 1.0
    cached_config.model.decoder, cached_config.model.decoder_channels = "fpn", 8
    for parts in (1, 4):
        cached_config.optimizer.microbatches = parts
        trainer.train_and_evaluate(copy.deepcopy(cached_config), str(tmp_path / str(parts)))
    assert_same_weights(
        checkpoint_weights(tmp_path / "4", 5),
        checkpoint_weights(tmp_path / "1", 5),
        rtol=0,
        atol=1e-5,
    )


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.slow
def test_a_damaged_shard_is_named_when_it_is_read(cached_config, tmp_path):
    cached_config.train.epochs = 1.0
    trainer.train_and_evaluate(copy.deepcopy(cached_config), str(tmp_path / "first"))
    damaged = sorted((tmp_path / "features").glob("*train_mirrored*"))[0]
    flip_a_byte(damaged)
    for is_hashed in (True, False):
        cached_config.data.verify_hashes = is_hashed
        named = rf"feature_cache_dir: .*{damaged.name} differs .*delete"
        with pytest.raises(FaultFound, match=named):
            trainer.train_and_evaluate(cached_config, str(tmp_path / f"run_{is_hashed}"))


@pytest.mark.slow
def test_a_run_keeps_its_kind_of_input_but_the_folder_may_move(cached_config, tmp_path):
    cached_config.train.epochs = 1.0
    trainer.train_and_evaluate(copy.deepcopy(cached_config), str(tmp_path / "run"))
    shutil.move(tmp_path / "features", tmp_path / "moved")
    cached_config.train.epochs = 2.0
    cached_config.data.feature_cache_dir = ""
    with pytest.raises(UserError, match=r"feature_cache_dir=.*''"):
        trainer.train_and_evaluate(copy.deepcopy(cached_config), str(tmp_path / "run"))
    cached_config.data.feature_cache_dir = str(tmp_path / "moved")
    trainer.train_and_evaluate(copy.deepcopy(cached_config), str(tmp_path / "run"))
    assert checkpoints.saved_steps(str(tmp_path / "run"))[-1] == 10


@pytest.mark.slow
def test_features_that_are_gone_are_computed_from_the_weights_that_the_run_began_with(
    staged, tmp_path
):
    trainer.train_and_evaluate(copy.deepcopy(staged), str(tmp_path / "run"))  # block4 has moved
    before = contents(tmp_path / "features")
    shutil.rmtree(tmp_path / "features")
    staged.train.stages[1].epochs = 2.0
    trainer.train_and_evaluate(copy.deepcopy(staged), str(tmp_path / "run"))
    assert contents(tmp_path / "features") == before


@pytest.mark.slow
def test_features_may_be_held_in_memory(cached_config, tmp_path):
    cached_config.train.epochs = 1.0
    trainer.train_and_evaluate(copy.deepcopy(cached_config), str(tmp_path / "disk"))
    cached_config.data.cache = "memory"
    trainer.train_and_evaluate(copy.deepcopy(cached_config), str(tmp_path / "memory"))
    assert_same_weights(
        checkpoint_weights(tmp_path / "memory", 5), checkpoint_weights(tmp_path / "disk", 5), rtol=0
    )


@pytest.mark.parametrize(("section", "field", "value", "expected"), [
    ("augment", "brightness", 0.2, "config.augment.brightness=0.2"),
    ("augment", "cutmix_probability", 0.5, "config.augment.cutmix_probability=0.5"),
    ("augment", "min_crop_area", 0.5, "config.data.feature_crops=0 must"),
    ("data", "feature_crops", 2, "config.data.feature_crops=2 must be 0 with whole images"),
    ("data", "feature_dtype", "int4", "config.data.feature_dtype='int4' must"),
    ("data", "service_address", "grpc://h:1", "config.data.service_address"),
    ("train", "trainable", "all", "config.train.trainable='all' must be a stage after block1"),
    ("train", "trainable", "block1", "config.train.trainable='block1' must be a stage after"),
])  # fmt: skip
def test_settings_that_need_images_are_refused(cached_config, section, field, value, expected):
    setattr(getattr(cached_config, section), field, value)
    with pytest.raises(UserError) as caught:
        config_rules.validate(cached_config)
    assert expected in str(caught.value)


@pytest.mark.slow
def test_the_command_prints_what_is_computed_and_a_mistake_is_one_line(data_dir, tmp_path):
    folder = tmp_path / "features"
    command = train_command(tmp_path / "run", data_dir, f"--config.data.feature_cache_dir={folder}")
    done = run_module(*command)
    assert done.returncode == 0, done.stderr
    assert "train (20), train_mirrored (20), validation (8)" in done.stderr
    (folder / manifest.FILE_NAME).write_text(json.dumps({"version": 2}))
    assert_one_line_error(
        run_module(*train_command(tmp_path / "third", data_dir, *command[-1:])), 2, "is damaged"
    )


@pytest.mark.long
@pytest.mark.parametrize(("hosts", "stages"), [(2, 1), (2, 2), (1, 2)])
def test_replicas_and_hosts_fill_a_cache_and_end_with_the_weights_of_one_device(
    staged, tmp_path, hosts, stages
):
    staged.train.stages = staged.train.stages[:stages]
    staged.model.decoder, staged.model.decoder_channels = "fpn", 8
    trainer.train_and_evaluate(copy.deepcopy(staged), str(tmp_path / "alone"))
    alone = contents(tmp_path / "features")
    staged.data.feature_cache_dir = str(tmp_path / "shared")
    if hosts == 1:
        staged.devices.strategy, staged.devices.cpu_replicas = "mirrored", 2
    file = write_config(staged, tmp_path / "config.py")
    assert train(file, tmp_path / "run", hosts) == [0] * hosts, log_of(tmp_path / "run")
    assert "over 2 replica(s)" in log_of(tmp_path / "run")
    shared = contents(tmp_path / "shared")
    assert shared.keys() == alone.keys()
    steps = 5 * stages
    ours, theirs = (checkpoint_weights(tmp_path / name, steps) for name in ("run", "alone"))
    assert_same_weights(ours, theirs, rtol=0, atol=1e-4)
