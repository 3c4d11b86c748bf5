"""What a metric is: a function of the counts of a split, or of those of its images."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class ImageCounts:
    """Pixels of each class in each image of a split; those that the truth ignores do not count.

    Attributes:
      right: int64 [images, classes], pixels that the truth and the prediction have of a class.
      truth: int64 [images, classes], those that the truth has.
      predicted: int64 [images, classes], those that the prediction has.
      class_names: names of the classes.
    """

    right: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    class_names: Sequence[str]

    def of(self, rows: np.ndarray) -> "ImageCounts":
        """The counts of some images: bool [images], or their indices."""
        return ImageCounts(
            self.right[rows], self.truth[rows], self.predicted[rows], self.class_names
        )


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


@dataclasses.dataclass(frozen=True)
class ImageMetric:
    """A metric that judges every image, such as a mean over them; see Metric.

    Attributes:
      compute: counts of the images, in the split's order -> as Metric's.
      tag: as Metric's.
      per_class: as Metric's.
    """

    compute: Callable[[ImageCounts], float | np.ndarray]
    tag: str = ""
    per_class: bool = False
