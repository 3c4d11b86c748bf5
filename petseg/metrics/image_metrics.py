"""The built-in metrics that judge every image, and then take the mean over images.

An image without a counted pixel, all of whose pixels the truth ignores, has no value, and means
leave it out.
"""

import numpy as np

from petseg.data.label_map import foreground
from petseg.metrics.base import ImageCounts, ImageMetric


def ious(counts: ImageCounts) -> np.ndarray:
    """IoU of each class in each image: float64 [images, classes], NaN where it is absent.

    A class is absent if neither the image's truth nor its prediction has a pixel of it.
    """
    with np.errstate(invalid="ignore"):
        return counts.right / (counts.truth + counts.predicted - counts.right)


def mean_ious(counts: ImageCounts) -> np.ndarray:
    """Mean IoU of each image over the classes that are not absent: float64 [images].

    NaN where no pixel counts.
    """
    values = ious(counts)
    is_present = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(is_present, values, 0.0).sum(1) / is_present.sum(1)


def joint_mean_iou(counts: ImageCounts) -> float:
    """Mean over classes of their IoU over the pixels of all images together; NaN without any."""
    pixels = (counts.right, counts.truth, counts.predicted)
    joint = ImageCounts(*(one.sum(0, keepdims=True) for one in pixels), counts.class_names)
    return image_mean_iou(joint)


def image_mean_iou(counts: ImageCounts) -> float:
    """Mean over images of their mean IoU; NaN if no pixel was counted."""
    return mean_of_present(mean_ious(counts))


def image_dice(counts: ImageCounts) -> float:
    """Mean over images, and over the classes but the background, of the Dice coefficient.

    Where neither an image nor its prediction has a pixel of a class the coefficient is 1, where
    only one of them has any it is 0: so competitions judge, such as Kaggle's of ultrasound
    nerves. Every class of every image weighs the same. If all classes are called background,
    all count. NaN if no pixel was counted.
    """
    chosen = foreground(counts.class_names) or list(range(len(counts.class_names)))
    is_counted = counts.truth.sum(1) > 0
    right, truth, predicted = (
        pixels[is_counted][:, chosen] for pixels in (counts.right, counts.truth, counts.predicted)
    )
    sizes = truth + predicted
    return mean_of_present(np.where(sizes > 0, 2 * right / np.maximum(sizes, 1), 1.0))


def mean_of_present(values: np.ndarray) -> float:
    """The mean of the values that are not NaN; NaN if all are."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")


IMAGE_MEAN_IOU = ImageMetric(image_mean_iou)
IMAGE_DICE = ImageMetric(image_dice, "metrics/image_dice")
