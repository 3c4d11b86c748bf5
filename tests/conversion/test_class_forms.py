"""Class files as programs write them: each form gives the same rules as its plain one."""

import csv
import io
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petseg.conversion.class_file import read_mask_rules
from petseg.conversion.sources.base import MaskRules
from petseg.errors import UserError

NAMES = {0: "sky", 1: "traffic light", 2: "road"}
COLOURS = {(128, 128, 128): 0, (0, 64, 64): 1, (128, 64, 128): 2}


@pytest.fixture
def rules_of(tmp_path):
    """A function that reads the rules of a class file's text."""

    def read(text, ignore_id=None, **options):
        (tmp_path / "c.txt").write_bytes(text.encode())
        return read_mask_rules(str(tmp_path / "c.txt"), ignore_id, **options)

    return read


@pytest.mark.parametrize(
    "text",
    [
        "sky\ntraffic light\nroad\n",
        "0,sky\n1,traffic light\n2,road\n",
        "0;sky\n1;traffic light\n2;road\n",
        "id;name\n0;sky\n1;traffic light\n2;road\n",
        "0\tsky\n1\ttraffic light\n2\troad\n",
        "0 sky\n1 traffic light\n2 road",
        "0: sky\n1: traffic light\n2: road",
        "Pixel Value, Class\n0, sky\n1, traffic light\n2, road\n",  # Roboflow's _classes.csv
        "name,id\nsky,0\ntraffic light,1\nroad,2\n",
        "class_index,class_name\n0,sky\n1,traffic light\n2,road\n",
        "# classes\n\n0,sky\n1,traffic light\n2,road\n",
        "sky=0\ntraffic light=1\nroad=2\n",
        "# label:color_rgb:parts:actions\nsky:::\ntraffic light:::\nroad:::\n",
    ],
)
def test_names_and_values_in_every_form(rules_of, text):
    for ending in ("\n", "\r\n"):
        assert rules_of(text.replace("\n", ending)) == MaskRules(NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "0,sky,#808080\n1,traffic light,#004040\n2,road,#804080\n",
        "0,sky,128 128 128\n1,traffic light,0;64;64\n2,road,128,64,128\n",
        "name,r,g,b\nsky,128,128,128\ntraffic light,0, 64, 64\nroad,128,64,128\n",
        "sky,128,128,128\ntraffic light,0,64,64\nroad,128,64,128\n",
        "name;red;green;blue\nsky;128;128;128\ntraffic light;0;64;64\nroad;128;64;128\n",
        "128 128 128\tsky\n0 64 64\t\ttraffic light\n128 64 128\troad\n",  # CamVid
        "# color (RGB) label\n128 128 128 sky\n0 64 64 traffic light\n128 64 128 road\n",
        "128,128,128,sky\n0,64,64,traffic light\n128,64,128,road\n",
        "sky 128 128 128\ntraffic light 0 64 64\nroad 128 64 128\n",
        "sky\t128\t128\t128\ntraffic light\t0\t64\t64\nroad\t128\t64\t128\n",
        "0 sky 128 128 128\n1 traffic light 0 64 64\n2 road 128 64 128\n",
        "sky,#808080\ntraffic light,#004040\nroad,#804080\n",
        # CVAT's labelmap.txt
        "# label:color_rgb:parts:actions\nsky:128,128,128::\ntraffic light:0,64,64::\n"
        "road:128,64,128:hand,foot:running\n",
        "id,name,r,g,b\n0,sky,128,128,128\n1,traffic light,0,64,64\n2,road,128,64,128\n",
        "r,g,b,class\n128,128,128,sky\n0,64,64,traffic light\n128,64,128,road\n",
        "class_id,class_name,color\n0,sky,#808080\n1,traffic light,#004040\n2,road,#804080\n",
    ],
)
def test_names_values_and_colours_in_every_form(rules_of, text):
    assert rules_of(text) == MaskRules(NAMES, COLOURS)


def test_labelmes_own_lines_are_what_they_are_in_its_masks(rules_of):
    text = "__ignore__\n_background_\ncat\n"
    expected = MaskRules({0: "background", 1: "cat", 255: "ignored"}, {}, 255)
    assert rules_of(text) == rules_of(text, 255) == expected
    with pytest.raises(UserError, match=r"--ignore_id=3: .*LabelMe stores as 255"):
        rules_of(text, 3)


def test_a_class_may_have_several_values(rules_of):
    rules = rules_of("0,wall\ncrack=3,4, 255\n", 7)
    assert rules == MaskRules({0: "wall", 3: "crack", 7: "ignored"}, {}, 7, {4: 3, 255: 3})
    assert rules_of("wall=0\nvoid=9,8\n", 8) == MaskRules({0: "wall", 9: "ignored"}, {}, 9, {8: 9})
    for text in ("0,wall\ncrack=3,0\n", "a=3,3\n", "a=1,2\nb=2\n"):
        with pytest.raises(UserError, match=r"id [032] is duplicated"):
            rules_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "0,a,#000000\n1,b,#ff0000\n1,b,#00ff00\n",
        "a,0,0,0\nb,255,0,0\nb,0,255,0\n",
        "0 0 0 a\n255 0 0 b\n0 255 0 b\n",
    ],
)
def test_a_class_may_have_several_colours(rules_of, text):
    colours = {(0, 0, 0): 0, (255, 0, 0): 1, (0, 255, 0): 1}
    assert rules_of(text) == MaskRules({0: "a", 1: "b"}, colours)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1\n2\n3\n", "line 1: '1' is not 'id,name'"),
        ("5,255,0,0\n", "line 1: '5,255,0,0' is not"),
        ("name\nroad\ncar\n", "line 1: 'name' may be a header or a class"),
        ("road\n\ncar\n", "line 2 is empty, and whether it counts"),
        ("road\nroad\n", "line 2: the name 'road' is duplicated"),
        ("0,road\ncar\n", "line 2: 'car' is not 'id,name'"),
        ("0,road,#000000\n0,road\n", "id 0 is duplicated"),
        ("a,0,0,0\nb,0,0,999\n", "colour '0 0 999' is neither"),
        ("0,road\n1,road\n", "'road' is duplicated; a line 'road=1,2' gives a class several"),
        ("a=300\n", "id 300 must lie"),
        ("\n".join(f"n{i}" for i in range(257)), "id 256 must lie between 0 and 255"),
        ('{"a": "' + "x" * 200_000 + '"}', "line 1 has more than 10,000 characters"),
        ("{'road': 1}\n{'car': 2, 'a': 3}\n", "is not 'id,name'"),
    ],
)
def test_what_could_mean_several_things_is_refused_with_the_reason(rules_of, text, told):
    with pytest.raises(UserError, match=told):
        rules_of(text)


def test_names_of_one_class_are_those_of_the_class_file(rules_of):
    assert read_mask_rules("", None, is_binary=True) == MaskRules(
        {0: "background", 1: "foreground"}, threshold=1
    )
    assert read_mask_rules("", None, threshold=128) == MaskRules(
        {0: "background", 1: "foreground"}, threshold=128, is_lossy_read=True
    )
    assert rules_of("0,skin\n255,mole\n", is_binary=True) == MaskRules(
        {0: "skin", 255: "mole"}, threshold=1
    )
    ignoring = rules_of("skin\nmole\n", 99, is_binary=True)
    assert ignoring == MaskRules({0: "skin", 1: "mole", 99: "ignored"}, ignored=99, threshold=1)
    for told, options in (
        ("leaves no value to ignore", {"threshold": 128, "ignore_id": 255}),
        ("0 and 1 are stored", {"is_binary": True, "ignore_id": 1}),
        ("from 1 to 65535", {"threshold": 0}),
    ):
        with pytest.raises(UserError, match=told):
            read_mask_rules("", options.pop("ignore_id", None), **options)
    with pytest.raises(UserError, match="background and one class; --classes names 3"):
        rules_of("a\nb\nc\n", is_binary=True)


_NAME = st.from_regex(r"[A-Za-z\u00e4\u6c34][A-Za-z_-]{0,8}( [a-z]{1,5})?", fullmatch=True)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(_NAME, min_size=2, max_size=9, unique=True).filter(
        lambda names: (
            not {"ignored", "id", "value"} & set(names) and names[0].lower() not in HEADERS
        )
    ),
    st.integers(0, 2**32),
)
def test_random_classes_are_read_back_from_every_form(names, seed):
    drawn = random.Random(seed)
    colours = [tuple(c) for c in {tuple(drawn.choices(range(256), k=3)) for _ in names}]
    names = names[: len(colours)]
    expected = dict(zip(names, colours, strict=True))
    texts = {
        "names": "\n".join(names),
        "ids": "\n".join(f"{i},{n}" for i, n in enumerate(names)),
        "r g b name": "\n".join(f"{r} {g} {b}\t{n}" for n, (r, g, b) in expected.items()),
        "name r g b": "\n".join(f"{n} {r} {g} {b}" for n, (r, g, b) in expected.items()),
        "cvat": "\n".join(f"{n}:{r},{g},{b}::" for n, (r, g, b) in expected.items()),
        "csv": as_csv([["name", "r", "g", "b"], *([n, *c] for n, c in expected.items())]),
    }
    for form, text in texts.items():
        rules = read_text(text)
        assert rules.names == dict(enumerate(names)), form
        if form not in ("names", "ids"):
            assert rules.values_of_colours == {c: i for i, c in enumerate(colours)}, form


HEADERS = ("name", "class", "label", "category", "names", "classes", "labels", "title")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_rules_or_a_message(text):
    try:
        rules = read_text(text)
    except UserError as error:
        assert "--classes: " in str(error)
    else:
        assert rules.names and set(rules.values_of_colours.values()) <= set(rules.names)


def as_csv(rows):
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue()


def read_text(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.txt"
        path.write_bytes(text.encode(errors="surrogatepass"))
        return read_mask_rules(str(path), None)
