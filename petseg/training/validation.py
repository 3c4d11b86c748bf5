"""What is done at an evaluation during training."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from petseg.label_map import LabelMap
from petseg.modeling import metrics
from petseg.modeling.metrics import Scores
from petseg.modeling.vgg16_skip import SkipModel


@contextlib.contextmanager
def averaged(model: SkipModel, averages: dict[str, tf.Variable]) -> Iterator[None]:
    """Meanwhile the model has its averaged weights; its own come back, bit by bit.

    Args:
      model: whose weights.
      averages: by the weight's path; empty if the run keeps none.
    """
    weights: list[keras.Variable] = [v for v in model.variables if v.path in averages]
    own = [weight.numpy() for weight in weights]
    try:
        for weight in weights:
            weight.value.assign(tf.convert_to_tensor(averages[weight.path]))
        yield
    finally:
        for weight, value in zip(weights, own, strict=True):
            weight.value.assign(value)


def figures(scores: Scores, label_map: LabelMap) -> dict:
    """What RUN/evaluation/validation_by_step.json says of one evaluation; None is no value."""
    is_counted = scores.pixels > 0
    return {
        "mean_iou": scores.mean_iou if is_counted else None,
        "iou": metrics.by_name(scores.iou, label_map.names),
        "pixel_accuracy": scores.pixel_accuracy if is_counted else None,
    }


def named_metrics(found: dict) -> dict[str, float]:
    """The same as single numbers, as `train.best_metric` names them; absent ones left out."""
    classes = {f"iou/{name}": iou for name, iou in found["iou"].items()}
    both = {**{k: found[k] for k in ("mean_iou", "pixel_accuracy")}, **classes}
    return {name: value for name, value in both.items() if value is not None}
