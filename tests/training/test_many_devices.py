"""The same weights, whoever computes them and however often it is interrupted."""

import copy
import dataclasses
import json
import os
import random
import signal
import time

import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator
from testing.clusters import log_of, train, training, write_config
from testing.commands import run_module
from testing.configs import choose_tiny_encoder
from testing.encoders import OTHER_ENCODERS
from testing.events import points
from testing.waiting import wait_until
from testing.weights import (
    assert_identical_weights,
    assert_same_weights,
    checkpoint_weights,
)

from petseg.errors import UserError
from petseg.run_dir import checkpoints
from petseg.training import replica_check, trainer
from petseg.training.replica_check import Outcome

STEPS = 20  # four epochs of 20 images in batches of 4
# So often a run is killed at random; more take minutes.
KILLS = int(os.environ.get("PETSEG_TEST_KILLS", "1"))


@pytest.fixture
def hard_config(tiny_config):
    """Everything on that could depend on who computes what."""
    config = tiny_config
    # Ignored pixels lie unevenly over the replicas; 8 validation images fill no two batches.
    config.data.label_map = "pet=1; background=2; ignored=3"
    config.data.keep_aspect = True
    config.model.dropout_rate = 0.3
    config.model.presence = True
    config.data.masks_of = "species=dog"
    config.model.class_masks = "summed"
    config.train.loss = "cross_entropy+dice+0.5*presence+image_class+box"
    config.augment.min_crop_area = 0.2
    config.augment.max_rotation_degrees = 20.0
    config.augment.brightness = 0.2
    config.augment.max_blur_sigma_px = 0.5
    config.augment.cutout_area = 0.1
    config.train.epochs = 4.0
    config.train.evaluate_every_epochs = 2.0
    config.optimizer.clip_norm = 1.0
    config.optimizer.average_decay = 0.9
    return config


def figures(folder):
    return json.loads((folder / "evaluation" / "validation_by_step.json").read_text())


@pytest.mark.long
@pytest.mark.parametrize("encoder", ["vgg16", *OTHER_ENCODERS])
def test_a_user_can_check_replicas_on_their_own_machine(tiny_config, tmp_path, encoder):
    replicas = [2, 4]
    if encoder != "vgg16":  # all of it trained, with whatever norms it has
        choose_tiny_encoder(tiny_config, encoder)
        tiny_config.data.batch_size, replicas = 2, [2]
        tiny_config.train.trainable = "all"
        # Adam makes as much of a gradient that is nothing but rounding as of any other.
        tiny_config.optimizer.name = "sgd"
    tiny_config.data.label_map = "pet=1; background=2; ignored=3"
    tiny_config.model.dropout_rate = 0.3
    tiny_config.augment.max_rotation_degrees = 20.0
    file = write_config(tiny_config, tmp_path / "config.py")
    done = run_module("-m", "petseg.train", f"--config={file}", "--check_replicas")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:-1]]
    assert [int(row[0]) for row in rows] == replicas
    assert all(0 < float(row[1]) < 1e-5 for row in rows)
    assert "equal weights give equal counts" in done.stdout
    tiny_config.data.batch_size = 7
    with pytest.raises(UserError, match="batch_size=7 cannot be shared"):
        next(replica_check.check_replicas(tiny_config))


@pytest.mark.slow
def test_each_of_eight_replicas_gets_its_rows_of_the_global_batch(data_dir, tmp_path):
    fed = {}
    for replicas in (1, 8):
        file = tmp_path / f"{replicas}.npz"
        done = run_module("tests/testing/shares_of_replicas.py", data_dir, replicas, file)
        assert done.returncode == 0, done.stderr
        fed[replicas] = dict(np.load(file))
    assert len(fed[8]) == 8 * len(fed[1]) > 0
    for name, whole in fed[1].items():
        key_and_step = name.rsplit(" ", 1)[0]
        for replica in range(8):
            share = fed[8][f"{key_and_step} {replica}"]
            np.testing.assert_array_equal(share, whole[2 * replica : 2 * replica + 2])


def test_a_difference_between_replicas_is_a_fault():
    first = Outcome(1, {"a": np.array([1.0, 2.0])}, np.eye(2, dtype=int), np.eye(2, dtype=int))
    same = dataclasses.replace(first, replicas=2)
    assert replica_check.compare(same, first) == (0.0, 0, [])
    drifted = dataclasses.replace(same, weights={"a": np.array([1.0, 2.0001])})
    assert replica_check.compare(drifted, first)[2] == [
        "the weights of 2 replicas differ by 0.0001"
    ]
    miscounted = dataclasses.replace(same, confusion_of_first=np.array([[1, 0], [1, 0]]))
    assert "count 1 pixels otherwise" in replica_check.compare(miscounted, first)[2][0]


@pytest.mark.slow
def test_hosts_end_with_the_weights_of_one_device(hard_config, tmp_path):
    hard_config.model.decoder = "fcn2s"
    hard_config.augment.cutmix_probability = 0.5
    # An image that is mixed has no class.
    hard_config.data.masks_of, hard_config.model.class_masks = "", "none"
    hard_config.train.loss = "cross_entropy+dice+0.5*presence"
    hard_config.train.trainable = "all"
    alone, hosts = tmp_path / "alone", tmp_path / "hosts"
    file = write_config(hard_config, tmp_path / "alone.py")
    assert train(file, alone) == [0], log_of(alone)
    assert train(file, hosts, hosts=2) == [0, 0], log_of(hosts) + log_of(hosts, 1)
    assert "over 2 replica(s) on 2 hosts" in log_of(hosts)
    assert_same_weights(
        checkpoint_weights(hosts, STEPS), checkpoint_weights(alone, STEPS), rtol=0, atol=1e-5
    )
    assert figures(hosts) == figures(alone)


@pytest.mark.slow
def test_microbatches_end_with_the_weights_of_whole_batches(hard_config, tmp_path):
    for parts in (1, 4):
        hard_config.optimizer.microbatches = parts
        trainer.train_and_evaluate(copy.deepcopy(hard_config), str(tmp_path / str(parts)))
    assert_same_weights(
        checkpoint_weights(tmp_path / "4", STEPS),
        checkpoint_weights(tmp_path / "1", STEPS),
        rtol=0,
        atol=1e-5,
    )


def last_saved(run) -> int:
    return max(checkpoints.saved_steps(str(run)), default=0)


def kill_until_done(file, run, hosts, kills, rng, steps):
    """Kills one host at a random moment, again and again, then lets the run end.

    Returns how many kills met a process that still ran.
    """
    met = 0
    for _ in range(kills):
        # A life should get about as far as the others.
        first = last_saved(run)
        target = min(first + rng.randint(0, max(2 * (steps - first) // kills, 2)), steps - 4)
        victim = rng.randrange(hosts)
        with training(file, run, hosts) as processes:

            def is_due(processes=processes, target=target):
                return last_saved(run) >= target or any(p.poll() is not None for p in processes)

            wait_until((run / "train").exists, "a run")
            wait_until(is_due, f"a checkpoint of step {target}")
            time.sleep(rng.uniform(0, 0.5))
            met += processes[victim].poll() is None
            processes[victim].send_signal(signal.SIGKILL)
            if hosts > 1 and all(p.poll() is None for i, p in enumerate(processes) if i != victim):
                others = [p for i, p in enumerate(processes) if i != victim]
                # No hang: the others end by themselves, within a minute.
                assert {p.wait(timeout=300) for p in others} <= {0, 1}
    assert train(file, run, hosts) == [0] * hosts, log_of(run)
    return met


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hosts", "kills"),
    [(1, KILLS), pytest.param(2, max(1, KILLS // 2), marks=pytest.mark.long)],
)
def test_a_run_that_is_killed_ends_as_if_it_had_not_been(tiny_config, tmp_path, hosts, kills):
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    tiny_config.devices.deterministic_ops = True
    tiny_config.model.dropout_rate = 0.3
    tiny_config.optimizer.average_decay = 0.9
    tiny_config.train.evaluate_every_epochs = 0.4  # checkpoints and evaluations all the time
    tiny_config.train.log_every_steps = 3  # so that a point is made of steps of two lives
    tiny_config.train.epochs = 2.0 * max(KILLS, 2)
    steps = 10 * max(KILLS, 2)
    file = write_config(tiny_config, tmp_path / "config.py")
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert train(file, straight, hosts) == [0] * hosts, log_of(straight)
    met = kill_until_done(file, killed, hosts, kills, rng, steps)
    print(f"{met} of {kills} kills met a run")
    assert met > 0
    assert_identical_weights(checkpoint_weights(killed, steps), checkpoint_weights(straight, steps))
    assert figures(killed) == figures(straight)
    for name in ("train", "validation"):
        ours, theirs = points(killed / name), points(straight / name)
        assert ours.keys() == theirs.keys()
        for point, values in ours.items():
            assert len(values) == 1, point
            assert np.array_equal(values[0], theirs[point][0]), point
    # What TensorBoard itself makes of the files.
    reader = event_accumulator.EventAccumulator(str(killed / "train"), {"tensors": 0})
    reader.Reload()
    steps_shown = [event.step for event in reader.Tensors("loss/total")]
    assert steps_shown == list(range(3, steps + 1, 3))


@pytest.mark.slow
def test_a_signal_to_one_host_stops_all_and_saves(hard_config, tmp_path):
    hard_config.train.epochs = 1000.0
    file, run = write_config(hard_config, tmp_path / "config.py"), tmp_path / "run"
    with training(file, run, hosts=2) as processes:
        wait_until(
            lambda: bool(checkpoints.saved_steps(str(run))),
            "first checkpoint",
            lambda: all(p.poll() is None for p in processes),
        )
        processes[1].send_signal(signal.SIGTERM)
        assert [p.wait(timeout=300) for p in processes] == [143, 143]
    step = checkpoints.saved_steps(str(run))[-1]
    assert f"stopped by SIGTERM at step {step}, saved" in log_of(run)
    assert f"stopped by SIGTERM at step {step}, saved" in log_of(run, 1)
