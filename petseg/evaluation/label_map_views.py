"""Label-map views: the same predictions, evaluated by other label maps too."""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from petseg.data.label_map import UNKNOWN, LabelMap, parse_label_map
from petseg.registry import LABEL_MAPS

MODEL_VIEW = ""  # the name of the view by the model's label map


@dataclasses.dataclass(frozen=True)
class LabelMapView:
    """A label map by which truth and predictions are evaluated.

    Attributes:
      label_map: its classes.
      merging: float32 [classes of the model, classes of the label map], 1 where the model's
        class is part of the other: the probability of a class is the sum of its parts.
    """

    label_map: LabelMap
    merging: np.ndarray


def list_views(
    model_map: LabelMap, raw_labels: Mapping[int, str], raw_values: Iterable[int]
) -> dict[str, LabelMapView]:
    """Lists the label maps by which a model can be evaluated on a split.

    A registered label map applies to a data set if it covers all raw values of the masks and
    if every class has the name that the data set gives to one of the raw values in it. That
    keeps a label map made for one data set away from others that use the same numbers.

    Args:
      model_map: label map of the model.
      raw_labels: raw mask value -> its meaning in the data set.
      raw_values: raw values of the split's masks.

    Returns:
      By name, the model's own label map first (MODEL_VIEW).
    """
    values = list(raw_values)
    views = {MODEL_VIEW: make_view(model_map, model_map)}
    for name in LABEL_MAPS:
        label_map = parse_label_map(name)
        class_ids = label_map.class_ids()
        if any(class_ids[value] == UNKNOWN for value in values):
            continue
        view = make_view(model_map, label_map)
        if view is not None and label_map.means(raw_labels):
            views[name] = view
    return views


def make_view(model_map: LabelMap, label_map: LabelMap) -> LabelMapView | None:
    """Makes a view; None if the model's classes cannot be merged into those of the label map."""
    targets = model_map.classes_in(label_map)
    if targets is None:
        return None
    merging = np.zeros((model_map.num_classes, label_map.num_classes), np.float32)
    for class_id, target in enumerate(targets):
        if target is not None:
            merging[class_id, target] = 1
    return LabelMapView(label_map, merging)
