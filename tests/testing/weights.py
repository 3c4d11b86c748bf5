"""Weights of checkpoints, and how they are compared."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf


def checkpoint_weights(run_dir: Path | str, step: int) -> dict[str, np.ndarray]:
    """Everything that a checkpoint holds, by name: 'score_P3/kernel'."""
    reader = tf.train.load_checkpoint(f"{run_dir}/checkpoints/ckpt-{step}/variables")
    keys = [key for key in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in key]
    return {
        key.removeprefix("variables/").split("/.ATT")[0].replace(".S", "/"): reader.get_tensor(key)
        for key in keys
    }


def assert_same_weights(
    one: Mapping[str, np.ndarray],
    other: Mapping[str, np.ndarray],
    *,
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> None:
    """Both hold the same names, with nearly equal values."""
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=rtol, atol=atol, err_msg=name)


def assert_identical_weights(
    one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]
) -> None:
    """Both hold the same names, with the same bits."""
    assert one.keys() == other.keys()
    assert [name for name in one if one[name].tobytes() != other[name].tobytes()] == []


def moved_layers(run_dir: Path | str, before: int, after: int) -> set[str]:
    """Layers whose weights differ between two checkpoints."""
    one, other = (checkpoint_weights(run_dir, step) for step in (before, after))
    return {
        name.split("/")[0]
        for name in one
        if not name.startswith(("stage", "average")) and (one[name] != other[name]).any()
    }
