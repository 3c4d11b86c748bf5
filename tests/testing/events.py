"""TensorBoard's event files, read for tests."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf


def summaries(folder: Path | str) -> Iterator[tuple[str, int, tf.compat.v1.Summary.Value]]:
    """(tag, step, value) of every summary of a writer, in the order of the files' names."""
    for path in sorted(Path(folder).iterdir()):
        if ".tfevents." in path.name:
            for event in tf.compat.v1.train.summary_iterator(str(path)):
                for value in event.summary.value:
                    yield value.tag, event.step, value


def curve(folder: Path | str, tag: str) -> dict[int, float]:
    """Step -> value of a scalar."""
    return {
        step: float(tf.make_ndarray(value.tensor))
        for name, step, value in summaries(folder)
        if name == tag
    }


def points(folder: Path | str) -> dict[tuple[str, int], list[np.ndarray]]:
    """(tag, step) -> values of a writer, timings left out."""
    found: dict[tuple[str, int], list[np.ndarray]] = {}
    for tag, step, value in summaries(folder):
        if not tag.startswith("input/"):
            found.setdefault((tag, step), []).append(tf.make_ndarray(value.tensor))
    return found
