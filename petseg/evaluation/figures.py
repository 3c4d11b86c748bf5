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
from petseg.metrics import boundaries, confusion, image_metrics
from petseg.metrics.measure import by_class, image_counts, measure, number_or_none
from petseg.metrics.never_predicted import never_predicted

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
    areas = np.stack([image.areas[key] for image in counts.images])
    return {
        **_count_figures(counts.counts[key], areas, names),
        "image_iou": _image_ious(areas, names),
    }


def _label_map_figures(counts: SplitCounts, name: str, label_map: LabelMap) -> dict:
    by_size = {size: _view_figures(counts, (name, size), label_map.names) for size in SIZES}
    return {"label_map": label_map.spec(), **by_size}


def _count_figures(counts: Counts, areas: np.ndarray, names: Sequence[str]) -> dict:
    ious, truth = confusion.iou(counts.confusion), counts.confusion.sum(1)
    figures = {
        **measure(counts.confusion, areas, names),
        "pixels": int(counts.confusion.sum()),
        "absent_classes": [n for n, iou in zip(names, ious, strict=True) if math.isnan(iou)],
        "not_in_truth": [n for n, pixels in zip(names, truth, strict=True) if not pixels],
        "never_predicted": never_predicted(counts.confusion, names),
        "confusion": counts.confusion.tolist(),
    }
    if counts.boundary is not None:
        ious = boundaries.boundary_iou(counts.boundary)
        figures["boundary_iou"] = by_class(ious, names)
        figures["mean_boundary_iou"] = number_or_none(image_metrics.mean_of_present(ious))
        figures["band_mean_iou"] = {
            str(radius): number_or_none(confusion.mean_iou(band))
            for radius, band in zip(BAND_RADII_PX, counts.bands, strict=True)
        }
    return figures


def _image_ious(areas: np.ndarray, names: Sequence[str]) -> dict[str, float | None]:
    """The mean IoU of each class over the images in which it, or a prediction of it, is."""
    ious = image_metrics.ious(image_counts(areas, names))
    return {
        name: number_or_none(image_metrics.mean_of_present(ious[:, index]))
        for index, name in enumerate(names)
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
