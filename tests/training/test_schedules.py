import math
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from petseg.training.schedules import ScheduleOptions, make_schedule, plateau_factor


def rates(name, steps=100, warmup_steps=0, **changes):
    options = ScheduleOptions(name, warmup_steps, **{"drop_at": (0.6, 0.85), **changes})
    schedule = make_schedule(options, peak=2.0, steps=steps)
    return np.array([schedule(tf.constant(step, tf.int64)).numpy() for step in range(steps)])


@pytest.mark.parametrize(("name", "expected"), [
    ("constant", lambda s: 1.0),
    ("plateau", lambda s: 1.0),
    ("cosine", lambda s: (1 + math.cos(math.pi * s / 100)) / 2),
    ("polynomial", lambda s: (1 - s / 100) ** 0.9),
    ("piecewise", lambda s: 1.0 if s < 60 else 0.1 if s < 85 else 0.01),
])  # fmt: skip
def test_rates_follow_their_formula(name, expected):
    np.testing.assert_allclose(
        rates(name), [2.0 * expected(s) for s in range(100)], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", ["cosine", "polynomial", "piecewise"])
def test_a_decay_follows_its_formula_after_any_warm_up(name):
    seed = int(np.random.SeedSequence().entropy % 2**32)
    print("seed", seed)
    rng = np.random.default_rng(seed)
    for _ in range(5):
        steps, power = int(rng.integers(2, 60)), rng.uniform(0.5, 2)
        asked, drop_at = int(rng.integers(0, 60)), tuple(sorted(rng.uniform(0.01, 0.99, 3)))
        warmup = min(asked, steps // 2)

        def expected(step, steps=steps, power=power, warmup=warmup, drop_at=drop_at):
            if step < warmup:
                return (step + 1) / (warmup + 1)
            share = (step - warmup) / (steps - warmup)
            if name == "cosine":
                return (1 + math.cos(math.pi * share)) / 2
            if name == "polynomial":
                return (1 - share) ** power
            return 0.1 ** sum(step / steps >= at for at in drop_at)

        np.testing.assert_allclose(
            rates(name, steps, asked, power=power, drop_at=drop_at),
            [2.0 * expected(step) for step in range(steps)],
            rtol=1e-5,
            atol=1e-6,
        )


def test_a_warm_up_rises_in_even_steps_and_never_starts_at_zero():
    warm = rates("constant", warmup_steps=9)
    np.testing.assert_allclose(warm[:10], 0.2 * np.arange(1, 11), rtol=1e-5)
    assert (warm[9:] == 2.0).all()


def test_a_warm_up_takes_at_most_half_of_the_stage():
    warm = rates("cosine", steps=10, warmup_steps=1000)
    assert np.argmax(warm) == 5
    assert (np.diff(warm[:6]) > 0).all() and (np.diff(warm[5:]) < 0).all()


def test_a_piecewise_rate_drops_at_the_step_that_completes_the_share():
    # In float64 0.55 * 100 is above 55 and 0.29 * 100 below 29.
    for share in (0.29, 0.55, 0.57, 0.58):
        step = round(100 * share)
        dropped = rates("piecewise", drop_at=(share,), drop_factor=0.5)
        assert (dropped[:step] == 2.0).all() and (dropped[step:] == 1.0).all()


def test_a_piecewise_rate_without_drops_is_constant():
    assert (rates("piecewise", drop_at=()) == 2.0).all()


def test_two_drops_within_one_step_multiply():
    dropped = rates("piecewise", steps=4, drop_at=(0.6, 0.7), drop_factor=0.5)
    np.testing.assert_array_equal(dropped, [2.0, 2.0, 2.0, 0.5])


def test_a_rate_stays_at_its_last_value_after_the_stage():
    for name, last in (("cosine", 0.0), ("polynomial", 0.0), ("constant", 2.0)):
        schedule = make_schedule(ScheduleOptions(name, 3), 2.0, 10)
        for step in (10, 11, 1000):
            assert float(schedule(tf.constant(step, tf.int64))) == pytest.approx(last, abs=1e-7)


# Logical devices must be made before TensorFlow starts, hence a process of its own.
ON_TWO_REPLICAS = """
import tensorflow as tf
from petseg.training.distribution import local_devices
from petseg.training.schedules import ScheduleOptions, make_schedule

strategy = tf.distribute.MirroredStrategy(local_devices(2))
for name in ("constant", "cosine", "polynomial", "piecewise"):
    schedule = make_schedule(ScheduleOptions(name, 3, drop_at=(0.5,)), 0.1, 20)
    traces = []

    @tf.function
    def run(step):
        traces.append(name)
        return schedule(step), strategy.run(schedule, args=(step,))

    for step in range(20):
        outside, inside = run(tf.constant(step, tf.int64))
        rates = [float(rate) for rate in strategy.experimental_local_results(inside)]
        assert rates == [float(outside)] * 2, (name, step, rates)
    assert len(traces) == 1, traces
"""


@pytest.mark.slow
def test_a_schedule_is_traced_once_and_agrees_on_both_replicas():
    done = subprocess.run(
        [sys.executable, "-c", ON_TWO_REPLICAS], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_plateau_drops_after_some_evaluations_without_a_new_best():
    assert plateau_factor([], 2, 0.1) == 1.0
    assert plateau_factor([0.1, 0.2, 0.3], 2, 0.1) == 1.0
    assert plateau_factor([0.5, 0.4], 2, 0.1) == 1.0
    assert plateau_factor([0.5, 0.4, 0.5], 2, 0.1) == 0.1
    assert plateau_factor([0.5, 0.4, 0.5, 0.6, 0.1], 2, 0.1) == 0.1
    assert plateau_factor([0.5] + [0.1] * 4, 2, 0.5) == 0.25
    assert plateau_factor([math.nan, math.nan, 0.3], 2, 0.1) == 0.1
