"""What the table and the page call things."""

from collections.abc import Mapping

from petseg.registry import METRICS

_TITLES = {
    "iou": "IoU",
    "dice": "Dice",
    "mean_iou": "mean IoU",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "image_mean_iou": "mean IoU of an image",
    "image_dice": "mean Dice of an image",
}
PRESENCE_TITLES = {
    "presence_auc": "AUC",
    "presence_precision": "precision",
    "presence_recall": "recall",
    "presence_threshold": "threshold",
    "presence_prevalence": "prevalence",
}
_KEEP_ABSENT = "keep_absent"
NOT_IN_TRUTH = "without a pixel in the truth of this split, so that no figure judges them"


def metric_titles(per_class: bool) -> dict[str, str]:
    """Name -> title of the metrics per class, or of the others; a plain name is its title."""
    return {
        name: _TITLES.get(name, name.replace("_", " "))
        for name, metric in METRICS.items()
        if metric.per_class == per_class
    }


def has_presence(figures: Mapping) -> bool:
    """Whether the figures are of a model with a presence head."""
    return all(key in figures for key in PRESENCE_TITLES)


def postprocessing_text(options: Mapping[str, float]) -> str:
    """Says what was done to predictions, by name of the option; '' if nothing."""
    lengths = {name: value for name, value in options.items() if value and name != _KEEP_ABSENT}
    given = ", ".join(f"{name}={value:g}" for name, value in lengths.items())
    parts = [f"full size: predictions with {given}"] if given else []
    if options.get(_KEEP_ABSENT):
        parts.append("classes that the presence head calls absent are kept")
    return "; ".join(parts)


def several(groups: Mapping[str, Mapping]) -> dict[str, Mapping]:
    """The kinds of groups that have several; a single one is the whole split."""
    return {kind: of_kind for kind, of_kind in groups.items() if len(of_kind) > 1}
