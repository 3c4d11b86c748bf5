"""What a run may do besides going straight to its end."""

import copy
import math
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from testing.command_processes import ROOT
from testing.conversion import convert
from testing.events import curve
from testing.weights import assert_same_weights, checkpoint_weights, moved_layers

from petseg import config_json, progress
from petseg.config import Stage, TrainConfig
from petseg.errors import FaultFound, StoppedBySignal, UserError
from petseg.evaluation.evaluate_split import EvaluateOptions, evaluate_split
from petseg.run_dir import checkpoints, evaluations, trained_model
from petseg.training import setup, trainer
from petseg.training import stages as stages_lib


@pytest.fixture
def staged(tiny_config):
    tiny_config.train.epochs = TrainConfig().epochs
    tiny_config.train.stages = [
        Stage("decoder", 1.0, 5e-3), Stage("block5", 1.0, 2e-3), Stage("all", 1.0, 1e-3)
    ]  # fmt: skip
    tiny_config.train.log_every_steps = 1
    tiny_config.train.keep_checkpoints = 99
    tiny_config.optimizer.schedule = "constant"
    tiny_config.optimizer.warmup_steps = 0
    return tiny_config


@pytest.mark.slow
def test_each_stage_trains_what_it_names_with_its_own_rate(staged, tmp_path):
    staged.train.save_every_minutes = 1e-9
    trainer.train_and_evaluate(staged, str(tmp_path))
    assert checkpoints.saved_steps(str(tmp_path)) == list(range(16))
    decoder = {
        *("score_P3", "score_P4", "score_P5"),
        *("upsample_to_P3", "upsample_to_P4", "upsample_to_image"),
    }
    blocks = {f"block{n}_conv1" for n in range(1, 6)}
    assert moved_layers(tmp_path, 1, 5) == decoder
    assert moved_layers(tmp_path, 5, 10) == decoder | {"block5_conv1"}
    assert moved_layers(tmp_path, 10, 15) == decoder | blocks
    rates = curve(tmp_path / "train", "rate/learning_rate")
    assert [rates[step] for step in (1, 5, 6, 10, 11, 15)] == pytest.approx(
        [5e-3, 5e-3, 2e-3, 2e-3, 1e-3, 1e-3]
    )
    assert checkpoints.read_metadata(str(tmp_path), 7).run["trained"] == ["decoder", "block5"]


@pytest.mark.slow
def test_the_encoder_may_have_a_learning_rate_of_its_own(tiny_config, tmp_path):
    tiny_config.train.trainable, tiny_config.train.epochs = "all", 0.2  # a step
    tiny_config.optimizer.name, tiny_config.optimizer.warmup_steps = "sgd", 0
    after = {}
    for factor in (0.0, 0.25, 1.0):
        tiny_config.optimizer.encoder_rate_factor = factor
        trainer.train_and_evaluate(tiny_config, str(tmp_path / str(factor)))
        after[factor] = checkpoint_weights(tmp_path / str(factor), 1)
    for name, still in after[0.0].items():
        quarter, whole = after[0.25][name] - still, after[1.0][name] - still
        if "block" in name and name.endswith("kernel"):
            assert whole.any(), name
        np.testing.assert_allclose(quarter, 0.25 * whole, rtol=1e-2, atol=1e-7, err_msg=name)
        assert "block" in name or not whole.any(), name


@pytest.mark.long
def test_a_run_stopped_in_any_stage_resumes_to_the_same_end(staged, tmp_path, monkeypatch):
    staged.optimizer.name = "sgd"
    staged.optimizer.average_decay = 0.9
    trainer.train_and_evaluate(staged, str(tmp_path / "straight"))
    stopped = tmp_path / "stopped"
    for _ in range(6):  # within stages and at their borders
        steps = []

        def advance(self, count, steps=steps):
            steps.extend([None] * count)
            if len(steps) >= 4:
                os.kill(os.getpid(), signal.SIGTERM)

        with monkeypatch.context() as patch:
            patch.setattr(progress.Progress, "advance", advance)
            try:
                trainer.train_and_evaluate(staged, str(stopped))
                break
            except StoppedBySignal:
                pass
    assert_same_weights(
        checkpoint_weights(tmp_path / "straight", 15), checkpoint_weights(stopped, 15)
    )


@pytest.mark.slow
def test_a_run_stopped_between_two_stages_begins_the_second_with_a_new_optimizer(staged, tmp_path):
    # Two of the same weights: the first one's moments would fit the second one's optimizer.
    first, second = Stage("decoder", 0.4, 5e-3), Stage("decoder", 0.4, 1e-2)
    staged.train.stages = [first, second]
    trainer.train_and_evaluate(staged, str(tmp_path / "straight"))
    staged.train.stages = [first]
    trainer.train_and_evaluate(staged, str(tmp_path / "stopped"))
    assert checkpoints.saved_steps(str(tmp_path / "stopped")) == [2]
    staged.train.stages = [first, second]
    trainer.train_and_evaluate(staged, str(tmp_path / "stopped"))
    assert_same_weights(
        checkpoint_weights(tmp_path / "straight", 4), checkpoint_weights(tmp_path / "stopped", 4)
    )


@pytest.mark.slow
def test_past_stages_may_not_change_and_later_ones_may(staged, tmp_path):
    longer = copy.deepcopy(staged)
    staged.train.stages = staged.train.stages[:2]
    trainer.train_and_evaluate(staged, str(tmp_path))
    other = copy.deepcopy(staged)
    other.train.stages[1] = Stage("block4", 1.0, 2e-3)
    with pytest.raises(UserError, match=r"so far trained decoder, block5, now .* decoder, block4"):
        trainer.train_and_evaluate(other, str(tmp_path))
    trainer.train_and_evaluate(longer, str(tmp_path))
    assert checkpoints.saved_steps(str(tmp_path)) == [5, 10, 15]


@pytest.mark.slow
def test_averaged_weights_are_what_is_evaluated_and_served(tiny_config, tmp_path):
    tiny_config.optimizer.average_decay = 0.95
    trainer.train_and_evaluate(tiny_config, str(tmp_path))
    stored = checkpoint_weights(tmp_path, 10)
    served = {
        v.path: v.numpy() for v in trained_model.load_trained_model(str(tmp_path)).model.variables
    }
    for name, value in served.items():
        source = name if name.startswith("block") else f"average/{name}"
        np.testing.assert_array_equal(value, stored[source])
    assert (stored["average/score_P3/kernel"] != stored["score_P3/kernel"]).any()
    report = evaluate_split(str(tmp_path), EvaluateOptions())
    assert report["mean_iou"] == evaluations.read_evaluations(str(tmp_path))[10]["mean_iou"]


@pytest.mark.slow
def test_a_plateau_lowers_the_rate_and_a_resumed_run_knows(tiny_config, tmp_path):
    tiny_config.optimizer.schedule = "plateau"
    tiny_config.optimizer.warmup_steps = 0
    tiny_config.optimizer.patience_evaluations = 1
    tiny_config.train.learning_rate = 1e-9  # nothing gets better
    tiny_config.train.log_every_steps = 5
    for epochs in (3.0, 4.0):
        tiny_config.train.epochs = epochs
        trainer.train_and_evaluate(tiny_config, str(tmp_path))
    rates = curve(tmp_path / "train", "rate/learning_rate")
    assert [rates[step] for step in (5, 10, 15, 20)] == pytest.approx([1e-9, 1e-9, 1e-10, 1e-11])


@pytest.mark.slow
def test_a_new_run_starts_from_the_weights_of_another(
    finished_run, tiny_config, raw_pets, tmp_path
):
    shutil.copytree(finished_run[0], tmp_path / "old")
    convert(raw_pets, tmp_path / "other_data", validation_fraction=0.5)
    tiny_config.data.dir = str(tmp_path / "other_data")
    with pytest.raises(UserError, match=r"--config\.model\.start_from="):
        trainer.train_and_evaluate(tiny_config, str(tmp_path / "old"))
    tiny_config.model.start_from = str(tmp_path / "old")
    tiny_config.train.epochs = 0.2  # a step
    trainer.train_and_evaluate(tiny_config, str(tmp_path / "new"))
    old = evaluate_split(str(tmp_path / "old"), EvaluateOptions(data_dir=tiny_config.data.dir))
    figures = evaluations.read_evaluations(str(tmp_path / "new"))
    assert figures[0]["mean_iou"] == old["mean_iou"]
    other = copy.deepcopy(tiny_config)
    other.model.start_from = str(tmp_path)
    with pytest.raises(UserError, match=r"start_from: .* is not a run") as caught:
        trainer.train_and_evaluate(other, str(tmp_path / "wrong"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "wrong").exists()


@pytest.mark.slow
def test_the_best_or_any_checkpoint_can_be_chosen(finished_run, tmp_path):
    shutil.copytree(finished_run[0], tmp_path, dirs_exist_ok=True)
    figures = evaluations.read_evaluations(str(tmp_path))
    best = max((5, 10), key=lambda step: figures[step]["mean_iou"])
    for chosen, step in (("best", best), ("5", 5), ("newest", 10)):
        report = evaluate_split(str(tmp_path), EvaluateOptions(checkpoint=chosen))
        assert report["checkpoint_step"] == step
        assert report["mean_iou"] == figures[step]["mean_iou"]
    with pytest.raises(UserError, match="newest, best or one of the steps 5, 10"):
        evaluate_split(str(tmp_path), EvaluateOptions(checkpoint="7"))


def test_a_bad_batch_is_named_with_its_images(tiny_config, tmp_path):
    tiny_config.train.learning_rate = 1e38
    tiny_config.optimizer.warmup_steps = 0
    tiny_config.optimizer.schedule = "constant"
    with pytest.raises(FaultFound, match=r"learning rate 1e\+38; images \w+_\d+(, \w+_\d+){3}\)"):
        trainer.train_and_evaluate(tiny_config, str(tmp_path))


@pytest.mark.slow
def test_a_step_that_is_not_finite_moves_nothing(tiny_config, tmp_path, monkeypatch):
    """Also with loss scaling, where the scale halves and training goes on."""
    from petseg.training import state

    monkeypatch.setattr(state, "_FIRST_LOSS_SCALE", 2.0**127)  # whose gradients overflow
    tiny_config.devices.precision = "mixed_float16"
    tiny_config.devices.force = True
    tiny_config.train.save_every_minutes = 1e-9
    tiny_config.train.log_every_steps = 1  # one step a call
    tiny_config.train.keep_checkpoints = 99
    trainer.train_and_evaluate(tiny_config, str(tmp_path))
    stored = [checkpoint_weights(tmp_path, step) for step in range(1, 11)]
    scales = [float(found["stage0/loss_scale"]) for found in stored]
    assert scales[0] == 2.0**126
    updates = [int(found["stage0/updates"]) for found in stored]
    for step in range(1, 10):
        is_skipped = updates[step] == updates[step - 1]
        assert is_skipped == (scales[step] == scales[step - 1] / 2)
        kernels = [found["score_P3/kernel"] for found in stored[step - 1 : step + 1]]
        assert is_skipped == (kernels[0] == kernels[1]).all()


@pytest.mark.parametrize(("changes", "message"), [
    ({"precision": "mixed_float16"}, "mixed_float16 is for GPUs"),
    ({"xla": True}, "xla=True is slower"),
])  # fmt: skip
def test_what_makes_a_cpu_slower_is_refused_unless_forced(tiny_config, tmp_path, changes, message):
    for name, value in changes.items():
        setattr(tiny_config.devices, name, value)
    with pytest.raises(UserError, match=message):
        trainer.train_and_evaluate(tiny_config, str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_other_arithmetic_goes_nearly_the_same_way(tiny_config, tmp_path):
    tiny_config.train.trainable = "all"
    tiny_config.devices.force = True
    trainer.train_and_evaluate(copy.deepcopy(tiny_config), str(tmp_path / "plain"))
    plain = curve(tmp_path / "plain" / "train", "loss/total")
    for change, value, tolerance in (
        ("xla", True, 1e-4),
        ("precision", "mixed_bfloat16", 0.1),
        ("precision", "mixed_float16", 0.1),
    ):
        config = copy.deepcopy(tiny_config)
        setattr(config.devices, change, value)
        run = tmp_path / f"{value}"
        trainer.train_and_evaluate(config, str(run))
        other = curve(run / "train", "loss/total")
        # Training is chaotic: what is rounded coarsely is compared at its beginning.
        compared = plain if value is True else {2: plain[2]}
        assert {step: other[step] for step in compared} == pytest.approx(compared, rel=tolerance)
        kernels = [v for n, v in checkpoint_weights(run, 10).items() if "kernel" in n]
        assert {v.dtype for v in kernels} == {np.dtype(np.float32)}


def test_a_call_that_does_not_come_back_is_given_up():
    """Python hears no signal while TensorFlow waits; here, while time.sleep goes on."""
    code = (
        "import time; from petseg.training.signals import noticing_signals\n"
        "with noticing_signals(grace_s=0.5):\n"
        "    print('ready', flush=True); time.sleep(100)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=300) == 143
        assert "did not end within" in process.stderr.read()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.mark.slow
def test_a_full_disk_stops_a_run_and_leaves_the_last_checkpoint(tiny_config, tmp_path, monkeypatch):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    steps = []

    def advance(self, count):
        steps.extend([None] * count)
        if len(steps) >= 7:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))

    try:
        with (
            monkeypatch.context() as patch,
            pytest.raises(FaultFound, match=r"cannot save (the curves of )?step (8|10)") as f,
        ):
            patch.setattr(progress.Progress, "advance", advance)
            trainer.train_and_evaluate(tiny_config, str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(f.value)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["ckpt-5"]
    trainer.train_and_evaluate(tiny_config, str(tmp_path))
    assert checkpoints.saved_steps(str(tmp_path)) == [5, 10]


def test_the_rounding_of_stages_does_not_add_up():
    # 10 images in batches of 4: half an epoch is 1.25 steps, and four of them are 5, not 4.
    planned = stages_lib.plan_stages([Stage("decoder", 0.5, 0.1)] * 4, records=10, batch_size=4)
    assert [one.first_step for one in planned] == [0, 1, 2, 3]
    assert [one.end_step for one in planned] == [1, 2, 3, 5]
    assert [stages_lib.stage_at(planned, step).index for step in range(6)] == [0, 1, 2, 3, 3, 3]


@pytest.mark.parametrize("epochs", [math.inf, math.nan, 1e300])
def test_more_steps_than_can_be_counted_are_refused(epochs):
    with pytest.raises(UserError, match="epochs of 20 images in batches of 4 are more than"):
        stages_lib.plan_stages([Stage("all", epochs, 1e-3)], 20, 4)


def test_a_run_is_resumed_with_a_loss_scale_that_it_had_not_and_without(
    finished_run, tiny_config, tmp_path
):
    def resume(precision):
        config = copy.deepcopy(tiny_config)
        config.devices.precision = precision
        config = config_json.spell_out(config)
        return setup.prepare_run(config, str(tmp_path), setup.choose_devices(config))

    tiny_config.devices.force = True
    shutil.copytree(finished_run[0], tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "checkpoints" / "ckpt-10")
    plain = resume("float32")
    scaled = resume("mixed_float16")
    assert scaled.metadata.step == 5
    assert any("loss scale starts anew" in note for note in scaled.notes)
    counts = {name: count.numpy() for name, count in scaled.stage.state.counts.items()}
    assert counts == {"updates": 5, "good_steps": 0, "loss_scale": 2.0**15}
    for name, column in plain.stage.state.slots.items():
        for ours, slot in zip(column, scaled.stage.state.slots[name], strict=True):
            np.testing.assert_array_equal(ours, slot)
    tiny_config.devices.precision = "mixed_float16"
    trainer.train_and_evaluate(tiny_config, str(tmp_path))
    again = resume("mixed_float16")
    stored = checkpoint_weights(tmp_path, 10)  # with a loss scale of its own now
    for name, count in again.stage.state.counts.items():
        assert count.numpy() == stored[f"stage0/{name}"]
    assert not any("loss scale" in note for note in again.notes)
    assert set(resume("float32").stage.state.counts) == {"updates"}
