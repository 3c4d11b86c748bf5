"""The source yolo: outlines in text files."""

import pytest
from testing.annotations import box, boxes, draw_images, masks_of, reasons

from petseg.conversion.sources import yolo as source
from petseg.conversion.sources.base import MaskRules, SourceOptions
from petseg.errors import UserError

YAML = "path: ../datasets/toy\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n"


def listed(folder, **changes):
    return source.list_yolo(SourceOptions(raw_dir=str(folder), **changes))


def line(number, *corners):
    shares = [
        f"{v / side:.9g}"
        for point in box(*corners)
        for v, side in zip(point, (60, 40), strict=True)
    ]
    return " ".join([str(number), *shares]) + "\n"


def draw(folder, texts, yaml=YAML, layout="{kind}/{split}"):
    """Writes images, labels and data.yaml; returns the folder."""
    for name, text in texts.items():
        split, _, stem = name.partition("/")
        draw_images(folder / layout.format(kind="images", split=split), [f"{stem}.jpg"])
        labels = folder / layout.format(kind="labels", split=split)
        labels.mkdir(parents=True, exist_ok=True)
        if text is not None:
            (labels / f"{stem}.txt").write_text(text)
    (folder / "data.yaml").write_text(yaml)
    return folder


@pytest.mark.parametrize(
    ("layout", "names"), [("{kind}/{split}", "images/{}/{}"), ("{split}/{kind}", "{}/images/{}")]
)
def test_class_n_becomes_value_n_plus_1(tmp_path, layout, names):
    texts = {"train/a": line(0, 5, 5, 20, 15) + line(1, 30, 10, 50, 30), "val/b": ""}
    listing = listed(draw(tmp_path, texts, layout=layout))
    masks, a, b = masks_of(listing), names.format("train", "a"), names.format("val", "b")
    assert (masks[a] == boxes((1, 5, 5, 20, 15), (2, 30, 10, 50, 30))).all()
    assert not masks[b].any()  # an empty file: nothing is on it
    assert {e.name: e.split for e in listing.examples} == {a: "train", b: "validation"}
    assert listing.masks.names == {0: "background", 1: "cat", 2: "dog", 255: "ignored"}
    assert listing.rejected == ()


def test_smaller_polygons_lie_on_top(tmp_path):
    text = line(0, 10, 10, 14, 14) + line(1, 0, 0, 60, 40)
    masks = masks_of(listed(draw(tmp_path, {"train/a": text})))
    assert (masks["images/train/a"] == boxes((2, 0, 0, 60, 40), (1, 10, 10, 14, 14))).all()


def test_names_as_a_list_and_a_yaml_file_elsewhere(tmp_path):
    folder = draw(tmp_path / "d", {"train/a": line(1, 1, 1, 9, 9)}, "names: [x, y]\nnc: 2\n")
    (folder / "data.yaml").rename(tmp_path / "toy.yaml")
    options = {"annotations": str(tmp_path / "toy.yaml"), "images": str(folder)}
    listing = source.list_yolo(SourceOptions(**options))
    assert listing.masks.names == {0: "background", 1: "x", 2: "y", 255: "ignored"}
    with pytest.raises(UserError, match="0 YAML files; name the one"):
        listed(folder)


def test_the_class_file_picks_labels(tmp_path):
    folder = draw(tmp_path, {"train/a": line(0, 1, 1, 9, 9), "train/b": line(1, 1, 1, 9, 9)})
    masks = masks_of(listed(folder, mask_rules=MaskRules({5: "dog"})))
    assert masks["images/train/a"] == "label of no class in --classes: 'cat', line 1"
    assert masks["images/train/b"].max() == 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0 0.5 0.5 0.2 0.2\n", "box, not the points of an outline: line 1"),
        (line(0, 1, 1, 9, 9) + "2 0 0 1 0 1 1\n", "class that the YAML file does not name: '2', l"),
        ("x 0 0 1 0 1 1\n", "class that the YAML file does not name: 'x', line 1"),
        ("0 0 0 1 nan 1 1\n", "a coordinate is no finite number: line 1"),
        ("0 0 0 1 a 1 1\n", "points are no numbers: line 1"),
        ("0 0 0 1 0 1 1 1\n", "points are no pairs of numbers: line 1"),
    ],
)
def test_what_cannot_be_drawn_rejects_its_image_alone(tmp_path, text, reason):
    masks = masks_of(listed(draw(tmp_path, {"train/a": text, "train/b": line(0, 1, 1, 9, 9)})))
    assert reason in masks["images/train/a"]
    assert masks["images/train/b"].max() == 1


def test_what_has_no_partner_and_shapes_without_pixels_are_named(tmp_path):
    texts = {"train/a": "0 1.5 0 1.7 0 1.7 0.5\n", "train/b": None, "train/gone": ""}
    folder = draw(tmp_path, texts)
    (folder / "images/train/gone.jpg").unlink()
    assert reasons(listed(folder)) == {
        "images/train/a": "shape left out, lies wholly outside the image: 'cat', line 1",
        "images/train/b": "image without a file of labels; an empty one says that nothing is on it",
        str(folder / "labels/train/gone.txt"): "file of labels without an image",
    }


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("names: {", "data.yaml: "),
        ("nc: 2\n", "has no 'names'"),
        ("names: 5\n", "has no 'names'"),
        ("- 1\n", "has no 'names'"),
        ("names: [a, a]\n", "a name is duplicated"),
        ("!!python/object/apply:os.system ['true']\n", "data.yaml: "),
    ],
)
def test_a_wrong_yaml_file_is_refused_in_one_line(tmp_path, yaml, message):
    with pytest.raises(UserError, match=message) as error:
        listed(draw(tmp_path, {"train/a": ""}, yaml))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("images", ["images", "images/train", "images/*/*.jpg"])
def test_labels_beside_the_folder_of_images_are_found(tmp_path, images):
    folder = draw(tmp_path, {"train/a": line(1, 5, 5, 20, 15), "train/b": ""})
    (folder / "labels/train/gone.txt").write_text("")
    options = {"annotations": str(folder / "data.yaml"), "images": str(folder / images)}
    listing = source.list_yolo(SourceOptions(**options))
    assert [mask.max() for mask in masks_of(listing).values()] == [2, 0]
    assert reasons(listing) == {
        str(folder / "labels/train/gone.txt"): "file of labels without an image"
    }
