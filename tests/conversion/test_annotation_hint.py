"""Files of annotations are told by their content."""

import json

import pytest
from testing.annotations import draw_images

from petseg.conversion import annotation_hint
from petseg.conversion.sources.base import SourceOptions
from petseg.conversion.sources.folders import list_folders
from petseg.errors import UserError

CASES = {
    "a.json": (json.dumps({"shapes": [{"shape_type": "x"}], "imagePath": "a.jpg"}), "labelme"),
    "i.json": (json.dumps({"images": [], "annotations": [], "categories": []}), "coco"),
    "p.json": (json.dumps({"_via_settings": {}, "_via_img_metadata": {}}), "via"),
    "e.json": (
        json.dumps({"a": {"regions": [{"shape_attributes": {}, "region_attributes": {}}]}}),
        "via",
    ),
    "v.csv": ("filename,region_shape_attributes\n", "via"),
    "l.txt": ("0 0.1 0.2 0.3 0.4 0.5 0.6\n3 .1 .2 .3 .4 1 0 1 1\n", "yolo"),
    "c.xml": ("<annotations><image id='0'><polygon/></image></annotations>", "coco"),
    "x_gtFine_polygons.json": ('{"imgHeight": 1, "imgWidth": 1, "objects": []}', "cityscapes"),
    "train.tfrecord": ("x", "tfrecord"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_source_of_a_file_is_named(tmp_path, name):
    content, source = CASES[name]
    (tmp_path / name).write_text(content)
    found = annotation_hint.hint(str(tmp_path))
    assert name in found
    assert f"--source={source}" in found


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '{"a": 1}'),
        ("train.txt", "a.jpg\nb.jpg\n"),
        ("n.txt", "1 2\n"),
        ("readme.txt", ""),
        ("x.csv", "id,name\n"),
        ("broken.json", "{"),
    ],
)
def test_other_files_are_none(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert annotation_hint.hint(str(tmp_path)) is None
    assert annotation_hint.hint(str(tmp_path / "no folder")) is None


def test_boxes_are_called_boxes(tmp_path):
    (tmp_path / "a.txt").write_text("0 0.1 0.2 0.3 0.4\n")
    assert annotation_hint.hint(str(tmp_path)) == (
        "a.txt holds YOLO's boxes, no outlines, which no source reads"
    )


@pytest.mark.parametrize("layout", ["beside", "in place of masks", "without folders"])
def test_folders_says_which_source_reads_what_lies_there(tmp_path, layout):
    images = tmp_path if layout == "without folders" else tmp_path / "images"
    masks = {"beside": images, "in place of masks": tmp_path / "masks"}.get(layout, tmp_path)
    draw_images(images, ["a.jpg"])
    masks.mkdir(exist_ok=True)
    if layout == "beside":
        draw_images(tmp_path / "masks", ["other.png"])
    (masks / "a.json").write_text(CASES["a.json"][0])
    with pytest.raises(UserError, match=r"a\.json holds LabelMe's .*--source=labelme reads"):
        list_folders(SourceOptions(raw_dir=str(tmp_path)))
