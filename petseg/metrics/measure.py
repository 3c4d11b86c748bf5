"""Every registered metric of a split, for JSON, for TensorBoard and by name.

Loads no TensorFlow, so that settings can be checked without it.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from petseg.errors import UserError
from petseg.metrics.base import ImageCounts, ImageMetric
from petseg.registry import METRICS


def measure(confusion: np.ndarray, areas: np.ndarray, class_names: Sequence[str]) -> dict:
    """Computes every registered metric.

    Args:
      confusion: int64 [classes, classes], rows the truth.
      areas: int64 [images, classes, 3], of each image; see confusion.areas.
      class_names: names of the classes.

    Returns:
      By name of the metric a float, or None where it has no value; for metrics per class a
      dict of the same by class: {"mean_iou": 0.7, "iou": {"pet": 0.8, "border": None}}.

    Raises:
      UserError: a metric gives values of another shape.
    """
    measured, images = {}, image_counts(areas, class_names)
    for name, metric in METRICS.items():
        counts = images if isinstance(metric, ImageMetric) else confusion
        with np.errstate(invalid="ignore", divide="ignore"):
            values = np.asarray(metric.compute(counts), np.float64)
        expected = (len(class_names),) if metric.per_class else ()
        if values.shape != expected:
            raise UserError(
                f"metric '{name}' gives values of shape {list(values.shape)}, not "
                f"{list(expected)}; correct its function, or per_class where it is registered"
            )
        measured[name] = (
            by_class(values, class_names) if metric.per_class else number_or_none(values)
        )
    return measured


def image_counts(areas: np.ndarray, class_names: Sequence[str]) -> ImageCounts:
    """What metrics of images take, of int64 [images, classes, 3]; see confusion.areas."""
    return ImageCounts(*np.moveaxis(areas, -1, 0), class_names)


def value_names(class_names: Sequence[str]) -> list[str]:
    """The names that `named_values` can give, as `train.best_metric` may name them."""
    return [
        name
        for key, metric in METRICS.items()
        for name in ([f"{key}/{c}" for c in class_names] if metric.per_class else [key])
    ]


def named_values(measured: Mapping) -> dict[str, float]:
    """Flattens what `measure` gives: {"mean_iou": 0.7, "iou/pet": 0.8}; None is left out."""
    flat: dict[str, float | None] = {}
    for name, value in measured.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{class_name}": v for class_name, v in value.items()}
        else:
            flat[name] = value
    return {name: value for name, value in flat.items() if value is not None}


def tensorboard_values(measured: Mapping) -> dict[str, float]:
    """TensorBoard's tags with their values, from what `measure` gives; None is left out."""
    values: dict[str, float | None] = {}
    for name, metric in METRICS.items():
        if not metric.tag:
            continue
        if metric.per_class:
            by_name = measured[name].items()
            values |= {metric.tag.replace("{class}", c): value for c, value in by_name}
        else:
            values[metric.tag] = measured[name]
    return {tag: value for tag, value in values.items() if value is not None}


def by_class(values: np.ndarray, class_names: Sequence[str]) -> dict[str, float | None]:
    """Class name -> value; None stands for NaN, as where a class is absent."""
    return {name: number_or_none(value) for name, value in zip(class_names, values, strict=True)}


def number_or_none(value: float | np.ndarray) -> float | None:
    """A number as JSON can hold it: None for NaN and infinity."""
    number = float(value)
    return number if math.isfinite(number) else None
