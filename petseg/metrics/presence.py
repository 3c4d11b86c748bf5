"""How well a presence head tells which classes an image holds, and from which probability on.

Images without a counted pixel are left out.
"""

import dataclasses

import numpy as np

from petseg.data.label_map import foreground
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
    """

    probabilities: np.ndarray
    counts: ImageCounts

    def counted(self) -> "Presence":
        """Without the images of which no pixel counts."""
        rows, c = self.counts.truth.sum(1) > 0, self.counts
        counts = ImageCounts(c.right[rows], c.truth[rows], c.predicted[rows], c.class_names)
        return Presence(self.probabilities[rows], counts)


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
    known, names = presence.counted(), presence.counts.class_names
    there = known.counts.truth > 0
    called = known.probabilities >= thresholds
    with np.errstate(invalid="ignore", divide="ignore"):
        right = (there & called).sum(0)
        values = {
            "presence_auc": area_under_roc(known.probabilities, there),
            "presence_precision": right / called.sum(0),
            "presence_recall": right / there.sum(0),
            "presence_prevalence": there.sum(0) / len(there),
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


def area_under_roc(probabilities: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The probability that an image with a class gets a higher one than an image without it.

    Equal ones count half (Mann and Whitney 1947).

    Args:
      probabilities: float [images, classes].
      there: bool [images, classes].

    Returns:
      float64 [classes]; NaN for a class that all images have, or none.
    """
    areas = np.full(there.shape[1], np.nan)
    for index, (of_class, has) in enumerate(zip(probabilities.T, there.T, strict=True)):
        if has.any() and not has.all():
            without = np.sort(of_class[~has])
            below = np.searchsorted(without, of_class[has], "left")
            not_above = np.searchsorted(without, of_class[has], "right")
            areas[index] = (below + not_above).mean() / (2 * without.size)
    return areas


def curves(presence: Presence) -> dict[str, Curve]:
    """The curve of each class that some images hold and others do not, by its name."""
    known = presence.counted()
    there, found = known.counts.truth > 0, {}
    columns = zip(presence.counts.class_names, known.probabilities.T, there.T, strict=True)
    for name, probabilities, has in columns:
        if has.any() and not has.all():
            thresholds = np.unique([0.0, *probabilities])
            ordered, with_class = np.sort(probabilities), np.sort(probabilities[has])
            called = ordered.size - np.searchsorted(ordered, thresholds, "left")
            right = with_class.size - np.searchsorted(with_class, thresholds, "left")
            found[name] = Curve(thresholds, right / called, right / with_class.size)
    return found


def choose_thresholds(presence: Presence) -> np.ndarray:
    """The probabilities below which suppressing a class gives the highest Dice coefficients.

    They are means over images, 1 where neither truth nor prediction has the class, as in
    image_metrics.image_dice. Of equally good thresholds the lowest is taken.

    Returns:
      float64 [classes]; 0 suppresses nothing.
    """
    known = presence.counted()
    sizes = known.counts.truth + known.counts.predicted
    kept = np.where(sizes > 0, 2 * known.counts.right / np.maximum(sizes, 1), 1.0)
    gains = (known.counts.truth == 0) - kept  # of suppressing the class in this image
    columns = zip(known.probabilities.T, gains.T, strict=True)
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
    there = presence.counted().counts.truth[:, chosen] > 0
    if not (there.all(0) | ~there.any(0)).all():
        return ""
    return (
        f"each of {', '.join(names[i] for i in chosen)} is in all validation images, or in none: "
        "a presence head has nothing to tell apart; leave config.model.presence out"
    )
