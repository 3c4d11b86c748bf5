"""The figures of an evaluation, as its JSON file has them; None stands for no value."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from petseg.data.label_map import LabelMap
from petseg.evaluation.counting import (
    BAND_RADII_PX,
    FULL_SIZE,
    MODEL_SIZE,
    SIZES,
    Counts,
    ImageScores,
    Key,
    SplitCounts,
)
from petseg.evaluation.label_map_views import MODEL_VIEW, LabelMapView
from petseg.metrics import boundaries, confusion
from petseg.metrics.measure import by_class, measure, number_or_none

RANKED_BY = (MODEL_VIEW, MODEL_SIZE)  # the mean IoU that ranks images


def split_figures(counts: SplitCounts, views: Mapping[str, LabelMapView], num_ranked: int) -> dict:
    """Computes every figure of a split.

    Args:
      counts: of the split.
      views: label-map views by name.
      num_ranked: number of worst and of best images to name.

    Returns:
      See evaluate_split.evaluate_split.
    """
    label_map, worst = views[MODEL_VIEW].label_map, rank_images(counts.images)
    return {
        "images": len(counts.images),
        "label_map": label_map.spec(),
        **_view_figures(counts, (MODEL_VIEW, MODEL_SIZE), label_map.names),
        FULL_SIZE: _view_figures(counts, (MODEL_VIEW, FULL_SIZE), label_map.names),
        "label_maps": {
            name: _label_map_figures(counts, name, view.label_map)
            for name, view in views.items()
            if name != MODEL_VIEW
        },
        "groups": _group_figures(counts, label_map.names),
        "worst": [_named_score(image) for image in worst[:num_ranked]],
        "best": [_named_score(image) for image in worst[::-1][:num_ranked]],
    }


def rank_images(images: Sequence[ImageScores]) -> list[ImageScores]:
    """Sorts images from the worst to the best; those without a counted pixel are left out."""
    counted = [image for image in images if not math.isnan(image.mean_iou[RANKED_BY])]
    return sorted(counted, key=lambda image: image.mean_iou[RANKED_BY])


def _named_score(image: ImageScores) -> dict[str, str | float]:
    return {"name": image.name, "mean_iou": image.mean_iou[RANKED_BY]}


def _view_figures(counts: SplitCounts, key: Key, names: Sequence[str]) -> dict:
    total = _count_figures(counts.counts[key], names)
    return {**total, **_image_figures(counts.images, key, names)}


def _label_map_figures(counts: SplitCounts, name: str, label_map: LabelMap) -> dict:
    by_size = {size: _view_figures(counts, (name, size), label_map.names) for size in SIZES}
    return {"label_map": label_map.spec(), **by_size}


def _count_figures(counts: Counts, names: Sequence[str]) -> dict:
    ious, truth = confusion.iou(counts.confusion), counts.confusion.sum(1)
    figures = {
        **measure(counts.confusion, names),
        "pixels": int(counts.confusion.sum()),
        "absent_classes": [n for n, iou in zip(names, ious, strict=True) if math.isnan(iou)],
        "not_in_truth": [n for n, pixels in zip(names, truth, strict=True) if not pixels],
        "confusion": counts.confusion.tolist(),
    }
    if counts.boundary is not None:
        ious = boundaries.boundary_iou(counts.boundary)
        figures["boundary_iou"] = by_class(ious, names)
        figures["mean_boundary_iou"] = _mean(ious)
        figures["band_mean_iou"] = {
            str(radius): number_or_none(confusion.mean_iou(band))
            for radius, band in zip(BAND_RADII_PX, counts.bands, strict=True)
        }
    return figures


def _image_figures(images: Sequence[ImageScores], key: Key, names: Sequence[str]) -> dict:
    """Means over images; for a class over the images in which it, or a prediction of it, is."""
    ious = np.stack([image.iou[key] for image in images])
    return {
        "image_mean_iou": _mean(np.array([image.mean_iou[key] for image in images])),
        "image_iou": {name: _mean(ious[:, index]) for index, name in enumerate(names)},
    }


def _group_figures(counts: SplitCounts, names: Sequence[str]) -> dict:
    return {
        kind: {
            group: {
                "images": counts.group_images[kind][group],
                "mean_iou": number_or_none(confusion.mean_iou(matrix)),
                "iou": by_class(confusion.iou(matrix), names),
            }
            for group, matrix in sorted(groups.items())
        }
        for kind, groups in counts.groups.items()
    }


def _mean(values: np.ndarray) -> float | None:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else None
