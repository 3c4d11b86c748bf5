"""How well a presence head tells which classes an image holds, and from which probability on.

Of each class the images are left out of which it is not known.
"""

import dataclasses

import numpy as np

from petseg.data.label_map import IGNORE, foreground
from petseg.metrics.base import ImageCounts
from petseg.metrics.measure import by_class

THRESHOLD = "presence_threshold"
_TAGS = {name: f"presence/{name}/{{class}}" for name in ("auc", "precision", "recall")}


@dataclasses.dataclass(frozen=True)
class Presence:
    """What is known of the images of a split, one row each.

    Attributes:
      probabilities: float64 [images, classes], of each class being there.
      counts: pixels of each class; to choose thresholds, predicted without suppression.
      labels: uint8 [images, classes], 1 where an image has a class, 0 where not, or IGNORE.
    """

    probabilities: np.ndarray
    counts: ImageCounts
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Curve:
    """How precision and recall of one class change with the threshold.

    Attributes:
      thresholds: float64 [points], ascending: 0 and every probability that an image has.
      precision: float64 [points], of the images with at least that probability.
      recall: float64 [points], of the same.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


def presence_figures(
    presence: Presence, thresholds: np.ndarray
) -> dict[str, dict[str, float | None]]:
    """Figures of every class, by name of the figure and of the class.

    Args:
      presence: Of a split's images.
      thresholds: float [classes], such as those of choose_thresholds.

    Returns:
      presence_auc, see area_under_roc; presence_threshold; presence_precision and
      presence_recall of images with at least that probability; presence_prevalence, the share of
      the images that hold the class.
    """
    names = presence.counts.class_names
    there, is_known = presence.labels == 1, presence.labels != IGNORE
    called = (presence.probabilities >= thresholds) & is_known
    columns = zip(presence.probabilities.T, there.T, is_known.T, strict=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        right = (there & called).sum(0)
        values = {
            "presence_auc": np.array([area_under_roc(p[k], t[k]) for p, t, k in columns]),
            "presence_precision": right / called.sum(0),
            "presence_recall": right / there.sum(0),
            "presence_prevalence": there.sum(0) / is_known.sum(0),
            THRESHOLD: thresholds,
        }
    return {name: by_class(of_classes, names) for name, of_classes in values.items()}


def presence_tags(figures: dict[str, dict[str, float | None]]) -> dict[str, float]:
    """TensorBoard's tags with their values, from what presence_figures gives."""
    return {
        tag.replace("{class}", class_name): value
        for name, tag in _TAGS.items()
        for class_name, value in figures[f"presence_{name}"].items()
        if value is not None
    }


def area_under_roc(probabilities: np.ndarray, there: np.ndarray) -> float:
    """The probability that an image with a class gets a higher one than an image without it.

    Equal ones count half (Mann and Whitney 1947).

    Args:
      probabilities: float [images].
      there: bool [images].

    Returns:
      NaN for a class that all images have, or none.
    """
    if there.all() or not there.any():
        return float("nan")
    without = np.sort(probabilities[~there])
    below = np.searchsorted(without, probabilities[there], "left")
    not_above = np.searchsorted(without, probabilities[there], "right")
    return float((below + not_above).mean() / (2 * without.size))


def curves(presence: Presence) -> dict[str, Curve]:
    """The curve of each class that some images hold and others do not, by its name."""
    found, names = {}, presence.counts.class_names
    for name, of_class, labels in zip(
        names, presence.probabilities.T, presence.labels.T, strict=True
    ):
        is_known = labels != IGNORE
        probabilities, has = of_class[is_known], labels[is_known] == 1
        if has.any() and not has.all():
            thresholds = np.unique([0.0, *probabilities])
            ordered, with_class = np.sort(probabilities), np.sort(probabilities[has])
            called = ordered.size - np.searchsorted(ordered, thresholds, "left")
            right = with_class.size - np.searchsorted(with_class, thresholds, "left")
            found[name] = Curve(thresholds, right / called, right / with_class.size)
    return found


def choose_thresholds(presence: Presence) -> np.ndarray:
    """The probabilities below which suppressing a class gives the highest Dice coefficients.

    They are means over images of which a pixel counts, 1 where neither truth nor prediction has
    the class, as in image_metrics.image_dice. Of equally good thresholds the lowest is taken.

    Returns:
      float64 [classes]; 0 suppresses nothing.
    """
    rows, counts = presence.counts.truth.sum(1) > 0, presence.counts
    sizes = counts.truth + counts.predicted
    kept = np.where(sizes > 0, 2 * counts.right / np.maximum(sizes, 1), 1.0)
    gains = (counts.truth == 0) - kept  # of suppressing the class in this image
    columns = zip(presence.probabilities[rows].T, gains[rows].T, strict=True)
    return np.array([_best_threshold(of_class, gain) for of_class, gain in columns])


def _best_threshold(probabilities: np.ndarray, gains: np.ndarray) -> float:
    """The threshold with the highest sum of gains of the images below it."""
    values, inverse = np.unique(probabilities, return_inverse=True)
    sums = np.cumsum(np.bincount(inverse, gains, minlength=values.size))
    if not values.size or sums.max() <= 0:
        return 0.0
    last = int(np.argmax(sums))  # the first of the highest
    above = values[last + 1] if last + 1 < values.size else 1.0
    return float((values[last] + above) / 2)


def warning(presence: Presence) -> str:
    """A line for users if all images hold the same classes, but the background; '' otherwise."""
    names = presence.counts.class_names
    chosen = foreground(names) or list(range(len(names)))
    labels = presence.labels[:, chosen]
    if ((labels == 1).any(0) & (labels == 0).any(0)).any():
        return ""
    return (
        f"each of {', '.join(names[i] for i in chosen)} is in all validation images, or in none: "
        "a presence head has nothing to tell apart; leave config.model.presence out"
    )
