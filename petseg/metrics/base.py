"""What a metric is: a function of a confusion matrix."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric, as `petseg.registry.METRICS` holds it.

    Attributes:
      compute: int64 confusion matrix [classes, classes], rows the truth -> a float, or float64
        [classes] if it is per class; NaN where it has no value, such as for an absent class.
      tag: its name in TensorBoard, such as 'metrics/mean_iou', or 'iou/{class}' if it is per
        class; '' if TensorBoard does not show it.
      per_class: whether it has one value per class.
    """

    compute: Callable[[np.ndarray], float | np.ndarray]
    tag: str = ""
    per_class: bool = False
