import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from testing.commands import run_python

from petseg.data.label_map import IGNORE, LabelMap, choose_label_map, own_label_map, parse_label_map
from petseg.data.manifest import Manifest
from petseg.errors import UserError
from petseg.registry import LABEL_MAPS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("three_class", {1: 0, 2: 1, 3: 2}),
        ("border_ignored", {1: 0, 2: 1, 3: IGNORE}),
        ("border_is_pet", {1: 0, 3: 0, 2: 1}),
    ],
)
def test_the_label_maps_of_the_pets_give_their_class_ids(name, expected):
    table = parse_label_map(name).class_ids()
    assert {raw: table[raw] for raw in expected} == expected
    assert set(table[[v for v in range(256) if v not in expected]]) == {254}


@st.composite
def label_maps(draw) -> LabelMap:
    values = draw(st.lists(st.integers(0, 255), min_size=3, max_size=30, unique=True))
    cuts = draw(st.integers(2, min(6, len(values) - 1)))
    groups = [tuple(group.tolist()) for group in np.array_split(values, cuts + 1)]
    has_ignored = draw(st.booleans())
    names = tuple(f"class {i}" for i in range(cuts))
    return LabelMap(names, tuple(groups[:cuts]), groups[cuts] if has_ignored else ())


@given(label_maps())
def test_a_spec_is_read_back_as_the_same_map(label_map):
    assert parse_label_map(label_map.spec()) == label_map


@given(label_maps())
def test_the_table_agrees_with_a_plain_search(label_map):
    table = label_map.class_ids()
    for raw in range(256):
        owners = [i for i, values in enumerate(label_map.raw_values) if raw in values]
        expected = owners[0] if owners else IGNORE if raw in label_map.ignored else 254
        assert table[raw] == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "nonsense", "a=1", "a=1; b=", "a=1; b=x", "a=1; b=256", "a=1; b=-1"),
        *("a=1; a=2", "a=1; b=1", "a=1; b=2; ignored=2", "=1; b=2", "a=1;; b=2"),
    ],
)
def test_a_malformed_text_is_refused_in_one_line_that_names_the_field(text):
    with pytest.raises(UserError, match=r"^config\.data\.label_map: [^\n]*$"):
        parse_label_map(text)


@pytest.mark.parametrize(
    ("label_map", "other", "expected"),
    [
        ("three_class", "border_ignored", (0, 1, None)),
        ("three_class", "border_is_pet", (0, 1, 0)),
        ("three_class", "three_class", (0, 1, 2)),
        ("border_ignored", "border_is_pet", (0, 1)),
        ("border_ignored", "three_class", None),  # neither of them is the border
        ("border_is_pet", "border_ignored", (0, 1)),
        ("border_is_pet", "three_class", None),  # its pet is two classes there
        ("a=1; b=2; c=9", "border_is_pet", None),  # 9 means nothing there
    ],
)
def test_classes_belong_to_those_of_another_label_map_if_it_divides_none(
    label_map, other, expected
):
    assert parse_label_map(label_map).classes_in(parse_label_map(other)) == expected


@given(label_maps())
def test_every_class_belongs_to_itself(label_map):
    assert label_map.classes_in(label_map) == tuple(range(label_map.num_classes))


def test_raw_values_without_a_class_are_reported():
    label_map = parse_label_map("three_class")
    label_map.check_covers([1, 2, 3], "DIR")
    with pytest.raises(UserError, match="DIR has mask values 0, 9"):
        label_map.check_covers([0, 1, 9], "DIR")


def manifest_of(raw_labels) -> Manifest:
    return Manifest("shapes", {}, raw_labels, splits={}, unplaced=())


def test_a_data_set_brings_a_class_for_each_raw_label_in_ascending_order():
    label_map = own_label_map(manifest_of({255: "ignored", 9: "car", 7: "road"}))
    assert label_map == LabelMap(("road", "car"), ((7,), (9,)), (255,))
    assert own_label_map(manifest_of({0: "a", 1: "b"})).spec() == "a=0; b=1"


def test_further_values_of_a_data_set_can_be_ignored():
    raw_labels = {0: "void", 1: "a", 2: "b", 5: "ignored"}
    label_map = own_label_map(manifest_of(raw_labels), ignored=[0])
    assert label_map.spec() == "a=1; b=2; ignored=0,5"


@pytest.mark.parametrize("raw_labels", [{}, {0: "a"}, {0: "a", 1: "ignored"}])
def test_a_data_set_with_fewer_than_two_classes_brings_no_label_map(raw_labels):
    with pytest.raises(UserError, match=r"set config\.data\.label_map") as caught:
        own_label_map(manifest_of(raw_labels))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "raw_labels"),
    [
        ("three_class", {1: "road", 2: "car", 3: "sky"}),
        ("border_is_pet", {1: "background", 2: "pet", 3: "border"}),
        ("border_ignored", {1: "pet", 2: "floor", 3: "border"}),
        ("three_class", {1: "value_1", 2: "value_2", 3: "border_of_pet"}),
    ],
)
def test_a_registered_label_map_is_refused_for_data_that_names_its_values_otherwise(
    text, raw_labels
):
    with pytest.raises(UserError) as caught:
        choose_label_map(text, manifest_of(raw_labels))
    message = str(caught.value)
    assert message.startswith(f"config.data.label_map={text} is 'pet=1")
    assert "; ".join(f"{name}={value}" for value, name in raw_labels.items()) in message
    # Written out it is taken: somebody means it.
    spec = parse_label_map(text).spec()
    assert choose_label_map(spec, manifest_of(raw_labels)) == parse_label_map(text)


@pytest.mark.parametrize("text", ["three_class", "border_is_pet", "border_ignored"])
@pytest.mark.parametrize(
    "raw_labels",
    [
        {1: "pet", 2: "background", 3: "border"},
        {1: "pet", 2: "background", 3: "border", 9: "toy"},
        {1: "value_1", 2: "value_2", 3: "value_3"},
    ],
)
def test_a_registered_label_map_is_taken_for_data_with_its_names_or_none(text, raw_labels):
    assert choose_label_map(text, manifest_of(raw_labels)) == parse_label_map(text)


def test_without_a_label_map_the_classes_are_those_of_the_data_set():
    chosen = choose_label_map("", manifest_of({1: "road", 2: "car", 3: "sky"}))
    assert chosen.spec() == "road=1; car=2; sky=3"


def test_a_label_map_that_is_registered_is_found_by_its_name():
    LABEL_MAPS.register("test_two_shapes", "round=1; square=2,3; ignored=0")
    expected = LabelMap(("round", "square"), ((1,), (2, 3)), (0,))
    assert parse_label_map("test_two_shapes") == expected


@pytest.mark.slow
def test_a_registered_label_map_is_found_without_loading_tfds():
    code = (
        "import sys; from petseg.data.label_map import parse_label_map;"
        "from petseg.registry import SOURCES;"
        "parse_label_map('border_is_pet'); SOURCES.get('tfds');"
        "sys.exit('tensorflow_datasets' in sys.modules)"
    )
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
