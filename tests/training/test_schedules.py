import math

import numpy as np
import pytest
import tensorflow as tf

from petseg.training.schedules import make_schedule, plateau_factor


def rates(name, steps=100, warmup_steps=0, **changes):
    arguments = {"power": 0.9, "drop_at": (0.6, 0.85), "drop_factor": 0.1, **changes}
    schedule = make_schedule(name, peak=2.0, steps=steps, warmup_steps=warmup_steps, **arguments)
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
        rates(name), [2.0 * expected(s) for s in range(100)], rtol=1e-4, atol=1e-6
    )


def test_a_warm_up_rises_in_even_steps_and_never_starts_at_nothing():
    found = rates("constant", warmup_steps=9)
    np.testing.assert_allclose(found[:10], 0.2 * np.arange(1, 11), rtol=1e-5)
    assert (found[9:] == 2.0).all()


def test_a_warm_up_takes_at_most_half():
    found = rates("cosine", steps=10, warmup_steps=1000)
    assert np.argmax(found) == 5
    assert (np.diff(found[:6]) > 0).all() and (np.diff(found[5:]) < 0).all()


def test_a_plateau_drops_after_some_evaluations_without_a_new_best():
    assert plateau_factor([], 2, 0.1) == 1.0
    assert plateau_factor([0.1, 0.2, 0.3], 2, 0.1) == 1.0
    assert plateau_factor([0.5, 0.4], 2, 0.1) == 1.0
    assert plateau_factor([0.5, 0.4, 0.5], 2, 0.1) == 0.1
    assert plateau_factor([0.5, 0.4, 0.5, 0.6, 0.1], 2, 0.1) == 0.1
    assert plateau_factor([0.5] + [0.1] * 4, 2, 0.5) == 0.25
    assert plateau_factor([math.nan, math.nan, 0.3], 2, 0.1) == 0.1
