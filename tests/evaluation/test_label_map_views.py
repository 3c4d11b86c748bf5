"""Which label maps apply to a data set, and how a model's classes are merged."""

import numpy as np
import pytest

from petseg.data.label_map import parse_label_map
from petseg.evaluation.label_map_views import MODEL_VIEW, list_views, make_view
from petseg.registry import LABEL_MAPS

PETS = {1: "pet", 2: "background", 3: "border"}
PRESETS = ["three_class", "border_ignored", "border_is_pet"]


def names(label_map, raw_labels, raw_values):
    views = list_views(parse_label_map(label_map), raw_labels, raw_values)
    assert next(iter(views)) == MODEL_VIEW
    return list(views)[1:]


@pytest.mark.parametrize(
    ("label_map", "expected"),
    [
        ("three_class", PRESETS),
        # The border's pixels are then not counted, or count as pet.
        ("border_is_pet", ["border_ignored", "border_is_pet"]),
        ("border_ignored", ["border_ignored", "border_is_pet"]),
    ],
)
def test_a_label_map_applies_if_the_classes_of_the_model_can_be_merged_into_it(label_map, expected):
    assert names(label_map, PETS, [1, 2, 3]) == expected


def test_a_label_map_must_cover_the_values_and_have_the_meaning_of_the_data_set():
    spec = "road=1; sky=2; car=3"
    assert names(spec, {1: "road", 2: "sky", 3: "car"}, [1, 2, 3]) == []
    # The same numbers with exchanged meanings.
    exchanged = {1: "background", 2: "pet", 3: "border"}
    assert names("background=1; pet=2; border=3", exchanged, [1, 2, 3]) == []
    assert names("pet=1; background=2; border=3; ignored=4", PETS, [1, 2, 3, 4]) == []
    assert names("pet=1; background=2; border=3", {}, [1, 2, 3]) == []


def test_a_label_map_from_outside_applies_too(monkeypatch):
    monkeypatch.setattr(LABEL_MAPS, "_items", dict(LABEL_MAPS._items))
    LABEL_MAPS.register("pet_or_not", "pet=1; background=2,3")
    assert names("three_class", PETS, [1, 2, 3]) == [*PRESETS, "pet_or_not"]


def test_merging_adds_the_probabilities_of_a_class():
    model, other = parse_label_map("three_class"), parse_label_map("border_is_pet")
    probabilities = np.array([0.3, 0.36, 0.34], np.float32)
    merged = probabilities @ make_view(model, other).merging
    np.testing.assert_allclose(merged, [0.64, 0.36], rtol=1e-6)
    ignored = make_view(model, parse_label_map("border_ignored"))
    np.testing.assert_allclose(probabilities @ ignored.merging, [0.3, 0.36], rtol=1e-6)
    assert make_view(other, model) is None
