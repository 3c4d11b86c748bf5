"""The source via: projects and exports of the VGG Image Annotator."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from testing.annotations import boxes, draw_images, masks_of, reasons, write_json

from petseg.conversion.sources import via as source
from petseg.conversion.sources.base import SourceOptions
from petseg.errors import UserError

RECT = {"name": "rect", "x": 5, "y": 6, "width": 10, "height": 8}
POLYGON = {"name": "polygon", "all_points_x": [30, 50, 50, 30], "all_points_y": [10, 10, 30, 30]}


def listed(folder, **changes):
    return source.list_via(SourceOptions(raw_dir=str(folder), **changes))


def region(shape, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


def entries(regions):
    return {
        f"{name}123": {"filename": name, "size": 123, "regions": found, "file_attributes": {}}
        for name, found in regions.items()
    }


def project(regions):
    return {
        "_via_settings": {"ui": {}, "core": {}, "project": {"name": "toy"}},
        "_via_img_metadata": entries(regions),
        "_via_attributes": {"region": {}, "file": {}},
    }


def write_csv(path, regions):
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        names = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes"
        rows.writerow([*names.split(","), "region_attributes"])
        for name, found in regions.items():
            for number, each in enumerate(found):
                shape, values = each["shape_attributes"], each["region_attributes"]
                texts = json.dumps(shape), json.dumps(values)
                rows.writerow([name, 123, "{}", len(found), number, *texts])
            if not found:
                rows.writerow([name, 123, "{}", 0, 0, "{}", "{}"])


REGIONS = {"a.jpg": [region(RECT, kind="dog"), region(POLYGON, kind="cat")], "b.jpg": []}


@pytest.mark.parametrize("form", ["project", "export", "version 1", "csv"])
def test_regions_become_the_classes_of_their_attribute(tmp_path, form):
    draw_images(tmp_path, list(REGIONS))
    if form == "project":
        write_json(tmp_path / "via_project.json", project(REGIONS))
    elif form == "export":
        write_json(tmp_path / "via_export.json", entries(REGIONS))
    elif form == "version 1":
        numbered = {n: {str(i): r for i, r in enumerate(found)} for n, found in REGIONS.items()}
        write_json(tmp_path / "via_region_data.json", entries(numbered))
    else:
        write_csv(tmp_path / "via_export.csv", REGIONS)
    listing = listed(tmp_path)
    assert listing.masks.names == {0: "background", 1: "cat", 2: "dog", 255: "ignored"}
    assert (masks_of(listing)["a"] == boxes((2, 5, 6, 15, 14), (1, 30, 10, 50, 30))).all()
    assert reasons(listing) == {
        "b": "no region is drawn on it, so that nobody knows whether it was looked at"
    }


def test_every_kind_of_region_is_drawn(tmp_path):
    y, x = np.mgrid[0:40, 0:60] + 0.5
    oval = ((y - 20) / 12) ** 2 + ((x - 30) / 5) ** 2 <= 1
    line = (abs(y - 20) <= 5) & (x >= 15) & (x <= 45)
    cases = {
        "circle": ({"cx": 30, "cy": 20, "r": 7}, np.hypot(x - 30, y - 20) <= 7),
        "ellipse": ({"cx": 30, "cy": 20, "rx": 12, "ry": 5, "theta": math.pi / 2}, oval),
        "point": ({"cx": 30, "cy": 20}, np.hypot(x - 30, y - 20) <= 5),
        "polyline": ({"all_points_x": [15, 30, 45], "all_points_y": [20, 20, 20]}, line),
    }
    found = {f"{k}.jpg": [region({"name": k, **shape}, c="x")] for k, (shape, _) in cases.items()}
    draw_images(tmp_path, list(found))
    write_json(tmp_path / "p.json", project(found))
    masks = masks_of(listed(tmp_path))
    for name, (_, expected) in cases.items():
        where = (x >= 15) & (x <= 45) if name == "polyline" else np.ones_like(expected)
        assert (masks[name] == expected)[where].all(), name


def test_the_only_attribute_is_the_class_and_several_are_a_question(tmp_path):
    draw_images(tmp_path, ["a.jpg"])
    found = {"a.jpg": [region(RECT, kind="dog", sure="yes"), region(POLYGON, kind="cat")]}
    write_json(tmp_path / "p.json", project(found))
    with pytest.raises(UserError, match=r"--attribute: .*: kind \(2 regions\), sure \(1 regions\)"):
        listed(tmp_path)
    with pytest.raises(UserError, match="--attribute=colour: no region has it; there are kind"):
        listed(tmp_path, attribute="colour")
    assert masks_of(listed(tmp_path, attribute="kind"))["a"].max() == 2
    message = masks_of(listed(tmp_path, attribute="sure"))["a"]
    assert message == "region without a value of 'sure': region 1"


def test_regions_without_attributes_are_one_class(tmp_path):
    draw_images(tmp_path, ["a.jpg"])
    write_json(tmp_path / "p.json", project({"a.jpg": [region(RECT)]}))
    listing = listed(tmp_path)
    assert listing.masks.names[1] == source.NO_ATTRIBUTE
    assert (masks_of(listing)["a"] == boxes((1, 5, 6, 15, 14))).all()


def test_a_ticked_box_is_the_class(tmp_path):
    draw_images(tmp_path, ["a.jpg", "b.jpg"])
    one, two = {"cat": True, "dog": False}, {"cat": True, "dog": True}
    found = {"a.jpg": [region(RECT, kind=one)], "b.jpg": [region(RECT, kind=two)]}
    write_json(tmp_path / "p.json", project(found))
    masks = masks_of(listed(tmp_path))
    assert masks["a"].max() == 1
    assert masks["b"] == "region of several classes: cat, dog, region 0"


def test_the_layout_of_the_balloons(tmp_path):
    for split in ("train", "val"):
        draw_images(tmp_path / split, [f"{split}.jpg"])
        found = {f"{split}.jpg": {"0": region(POLYGON)}}
        write_json(tmp_path / split / "via_region_data.json", entries(found))
    assert {e.name: e.split for e in listed(tmp_path).examples} == {
        **{"train/train": "train", "val/val": "validation"}
    }


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ({"name": "spiral"}, "no kind of shape that petseg knows: 'spiral', region 0"),
        ({"name": "rect", "x": 1, "y": 2, "width": 5}, "rect without 'height': region 0"),
        ({**RECT, "x": None}, "has no points that are numbers"),
        ({**RECT, "x": float("nan")}, "no finite number"),
        ({**POLYGON, "all_points_x": [1, 2, 3]}, "or x without y"),
    ],
)
def test_what_cannot_be_drawn_rejects_its_image_alone(tmp_path, shape, reason):
    draw_images(tmp_path, ["a.jpg", "b.jpg"])
    found = {"a.jpg": [region(shape, c="x")], "b.jpg": [region(RECT, c="x")]}
    write_json(tmp_path / "p.json", project(found))
    masks = masks_of(listed(tmp_path))
    assert reason in masks["a"]
    assert masks["b"].max() == 1


def test_images_that_are_missing_or_named_twice_and_shapes_outside_are_told(tmp_path):
    draw_images(tmp_path, ["a.jpg", "more.jpg"])
    outside = region({**RECT, "x": 70}, c="x")
    write_json(tmp_path / "p.json", project({"a.jpg": [outside], "gone.jpg": [outside]}))
    write_json(tmp_path / "q.json", project({"a.jpg": [outside]}))
    found = [(f.name, f.reason.split(":")[0]) for f in listed(tmp_path).rejected]
    assert sorted(found) == [
        ("a", "image is annotated a second time; the first annotation counts"),
        ("a", "shape left out, lies wholly outside the image"),
        ("gone.jpg", "image that the annotations name is missing"),
        ("more", "image that no annotation names"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", '{"images": [], "annotations": []}', "which --source=coco reads"),
        ("x.json", '{"a": 1}', "it is not VIA's: a: "),
        ("x.json", "[1", "x.json: "),
        ("x.csv", "a,b\n1,2\n", "it has no column 'filename'"),
        (
            "x.csv",
            "filename,region_count,region_shape_attributes,region_attributes\na.jpg,1,{x,{}\n",
            "line 2: JSON is broken",
        ),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path, name, content, message):
    draw_images(tmp_path, ["a.jpg"])
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as error:
        listed(tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_the_named_folder_is_called_says_no_split(tmp_path):
    names = [f"{i}.jpg" for i in range(8)]
    folder = draw_images(tmp_path / "dev", names)
    write_json(folder / "via.json", entries({n: [region(RECT)] for n in names}))
    assert listed(folder).split_by == "a hash of each name"
    options = SourceOptions(annotations=str(folder / "via.json"), images=str(folder))
    assert source.list_via(options).split_by == "a hash of each name"
    write_json(folder / "val/via.json", entries({"7.jpg": [region(RECT)]}))
    write_json(folder / "via.json", entries({n: [region(RECT)] for n in names[:-1]}))
    assert listed(folder).split_by == "the annotation files"


def test_json_that_is_nested_too_deep_is_refused(tmp_path):
    draw_images(tmp_path, ["a.jpg"])
    names = "filename,region_count,region_shape_attributes,region_attributes"
    (tmp_path / "via.csv").write_text(f"{names}\na.jpg,1,{'[' * 200_000},{{}}\n")
    with pytest.raises(UserError, match="line 2: JSON is broken"):
        listed(tmp_path)


def test_a_csv_file_may_be_remote(tmp_path, monkeypatch):
    kinds = epath.register._URI_PREFIXES_TO_CLS  # a kind of remote path that is here
    monkeypatch.setitem(kinds, "file://", lambda path: Path(path.removeprefix("file://")))
    write_csv(tmp_path / "via.csv", REGIONS)
    found = source._entries_of_csv(f"file://{tmp_path}/via.csv")
    assert [entry.filename for entry in found] == list(REGIONS)
