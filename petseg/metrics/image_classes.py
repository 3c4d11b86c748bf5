"""Images whose class was trained with masks, and the others, judged apart."""

from collections.abc import Sequence

import numpy as np

from petseg.metrics import image_metrics
from petseg.metrics.base import ImageCounts


def by_image_class(
    counts: ImageCounts, image_classes: np.ndarray, has_mask: Sequence[bool] = ()
) -> dict[str, float | None]:
    """Figures that depend on the classes of whole images.

    Args:
      counts: Pixels of each class in each image.
      image_classes: int64 [images, 2], the class of each image and the predicted one; negative
        where it is not known, or none is predicted.
      has_mask: For each class of an image whether its masks were trained with; () for all.

    Returns:
      `image_class_accuracy`, if classes are predicted: share of the images of known class whose
      class is right. With has_mask for the images that were trained with masks, `with_masks`,
      and those that were not, `without_masks`: mean_iou_..., over the pixels of all of them
      together, and image_mean_iou_..., the mean over images. None without such an image.
    """
    truth, predicted = image_classes.T
    figures: dict[str, float | None] = {}
    if (predicted >= 0).any():
        is_known = truth >= 0
        right = float((truth == predicted)[is_known].mean()) if is_known.any() else None
        figures["image_class_accuracy"] = right
    if has_mask:
        is_with = np.array(has_mask)[np.maximum(truth, 0)]
        for name, rows in (("with_masks", is_with), ("without_masks", ~is_with)):
            chosen = counts.of(rows & (truth >= 0))
            figures[f"mean_iou_{name}"] = _or_none(image_metrics.joint_mean_iou(chosen))
            figures[f"image_mean_iou_{name}"] = _or_none(image_metrics.image_mean_iou(chosen))
    return figures


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
