"""The source labelme: a JSON file beside each image."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from testing.annotations import box, boxes, draw_images, masks_of, reasons, write_json

from petseg.conversion.sources import labelme as source
from petseg.conversion.sources.base import MaskRules, SourceOptions
from petseg.errors import UserError


def png(mask):
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


STAMP = png(np.ones((4, 6), bool))


def listed(folder, **changes):
    return source.list_labelme(SourceOptions(raw_dir=str(folder), **changes))


def shape(label, points, kind="polygon", **more):
    fields = {"group_id": None, "description": "", "shape_type": kind, "flags": {}}
    return {"label": label, "points": points, **fields, **more}


def draw(folder, name, shapes, **changes):
    """Writes an image and its JSON as LabelMe 5 does; returns the folder."""
    draw_images(folder, [f"{name}.jpg"])
    content = {
        **{"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{name}.jpg"},
        **{"imageData": "QUJD" * 1000, "imageHeight": 40, "imageWidth": 60},
    }
    write_json(folder / f"{name}.json", {**content, **changes})
    return folder


def test_labels_become_classes_in_the_order_of_their_names(tmp_path):
    shapes = [shape("dog", box(5, 5, 20, 15)), shape("cat", [[30, 10], [50, 39]], "rectangle")]
    listing = listed(draw(tmp_path, "a", shapes))
    assert listing.masks.names == {0: "background", 1: "cat", 2: "dog", 255: "ignored"}
    assert (masks_of(listing)["a"] == boxes((2, 5, 5, 20, 15), (1, 30, 10, 50, 39))).all()
    assert listing.rejected == ()


def test_every_kind_of_shape_is_drawn(tmp_path):
    y, x = np.mgrid[0:40, 0:60] + 0.5
    disc = np.hypot(x - 30, y - 20)
    stamp = np.zeros((4, 6), bool)
    stamp[1:, 2:] = True
    stamped = np.zeros((40, 60), bool)
    stamped[10:14, 20:26] = stamp
    level = (abs(y - 20) <= 5) & (x > 15) & (x < 45)
    cases = {
        "circle": (shape("x", [[30, 20], [30, 27]], "circle"), disc <= 7),
        "point": (shape("x", [[30, 20]], "point"), disc <= 5),
        "line": (shape("x", [[15, 20], [45, 20]], "line"), level),
        "strip": (shape("x", [[15, 20], [30, 20], [45, 20]], "linestrip"), level),
        "mask": (shape("x", [[20, 10], [25, 13]], "mask", mask=png(stamp)), stamped),
        "old": (shape("x", box(1, 2, 3, 4), None), boxes((1, 1, 2, 3, 4))),
        "turned": (shape("x", box(1, 2, 3, 4), "rotation"), boxes((1, 1, 2, 3, 4))),
    }
    for name, (drawn, _) in cases.items():
        draw(tmp_path, name, [drawn])
    masks = masks_of(listed(tmp_path))
    for name, (_, expected) in cases.items():
        differs = masks[name] != expected
        if name in ("line", "strip"):  # their ends are round
            differs &= (x > 15) & (x < 45)
        assert not differs.any(), name


def test_later_shapes_lie_on_top_and_special_labels_are_kept(tmp_path):
    shapes = [
        *[shape("cat", box(0, 0, 30, 30)), shape("_background_", box(5, 5, 10, 10))],
        shape("__ignore__", box(20, 20, 40, 35)),
    ]
    expected = boxes((1, 0, 0, 30, 30), (0, 5, 5, 10, 10), (255, 20, 20, 40, 35))
    listing = listed(draw(tmp_path, "a", shapes))
    assert (masks_of(listing)["a"] == expected).all()
    assert listing.masks.names == {0: "background", 1: "cat", 255: "ignored"}


def test_folders_apart_and_split_folders(tmp_path):
    for split in ("train", "val"):
        draw(tmp_path / "ann" / split, split, [shape("cat", box(0, 0, 9, 9))])
        (tmp_path / "img" / split).mkdir(parents=True)
        (tmp_path / "ann" / split / f"{split}.jpg").rename(
            tmp_path / "img" / split / f"{split}.jpg"
        )
    options = {"annotations": str(tmp_path / "ann"), "images": str(tmp_path / "img")}
    listing = source.list_labelme(SourceOptions(**options))
    assert {e.name: e.split for e in listing.examples} == {
        **{"train/train": "train", "val/val": "validation"}
    }


def test_a_path_of_another_system_and_a_renamed_image_are_found(tmp_path):
    draw(tmp_path, "a", [shape("cat", box(0, 0, 9, 9))], imagePath="..\\photos\\a.jpg")
    draw(tmp_path, "b", [shape("cat", box(0, 0, 9, 9))], imagePath="old name.jpg")
    assert {e.name for e in listed(tmp_path).examples} == {"a", "b"}


def test_what_has_no_partner_is_named(tmp_path):
    draw(tmp_path, "a", [shape("cat", box(0, 0, 9, 9)), shape("cat", box(99, 0, 109, 9))])
    draw(tmp_path, "gone", [shape("cat", box(0, 0, 9, 9))])
    (tmp_path / "gone.jpg").unlink()
    draw(tmp_path, "twice", [], imagePath="a.jpg")
    draw(tmp_path, "bad", [])
    (tmp_path / "bad.json").write_text('{"shapes": [')
    draw_images(tmp_path, ["bare.jpg"])
    found = reasons(listed(tmp_path))
    assert found.pop("bad").startswith("LabelMe's file is malformed")
    assert found == {
        **{"gone.json": "image that the annotations name is missing"},
        **{"bare": "image that no annotation names", "twice": "image that no annotation names"},
        "a": "image is annotated a second time; the first annotation counts",
    }
    outside = [f.reason for f in listed(tmp_path).rejected if "outside" in f.reason]
    assert outside == ["shape left out, lies wholly outside the image: 'cat', shape 1"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (shape("cat", [[1, 1], [2, 2]], "splat"), "no kind of shape that petseg knows: 'splat'"),
        (
            shape("cat", [[20, 10], [26, 13]], "mask", mask=STAMP),
            "mask of 6x4",
        ),
        (shape("cat", [[58, 10], [63, 13]], "mask", mask=STAMP), "leaves its"),
        (shape("cat", [[58, 10], [63, 13]], "mask", mask="?"), "no base64"),
        (shape("cat", [[58, 10], [63, 13]], "mask", mask="QUJD"), "no picture that petseg reads"),
        (shape("cat", [[1, 1], [2, 2], [3, 3]], "circle"), "circle of 3 points, not two: shape 1"),
        (shape("cow", box(0, 0, 9, 9)), "label of no class in --classes: 'cow', shape 1"),
    ],
)
def test_what_cannot_be_drawn_rejects_its_image_alone(tmp_path, bad, reason):
    draw(tmp_path, "a", [shape("cat", box(0, 0, 9, 9)), bad])
    draw(tmp_path, "b", [shape("cat", box(0, 0, 9, 9))])
    masks = masks_of(listed(tmp_path, mask_rules=MaskRules({1: "cat"})))
    assert reason in masks["a"]
    assert (masks["b"] == boxes((1, 0, 0, 9, 9))).all()


def test_a_json_of_another_tool_is_told_apart(tmp_path):
    draw_images(tmp_path, ["a.jpg"])
    write_json(tmp_path / "x.json", {"images": [], "annotations": [], "categories": []})
    with pytest.raises(UserError, match="COCO's annotations, which --source=coco reads"):
        listed(tmp_path)


def test_nan_is_named_with_its_place(tmp_path):
    draw(tmp_path, "a", [shape("cat", [[0, 0], [float("nan"), 1], [2, 2]])])
    draw(tmp_path, "b", [shape("cat", box(0, 0, 9, 9))])
    reason = reasons(listed(tmp_path))["a"]
    assert "shapes[0].points[1][0]: should be a finite number" in reason


def test_labels_that_a_label_map_cannot_hold_are_renamed(tmp_path):
    draw(tmp_path, "a", [shape("cat;old", box(0, 0, 9, 9))])
    listing = listed(tmp_path)
    assert listing.masks.names[1] == "cat_old"
    assert masks_of(listing)["a"].max() == 1
    draw(tmp_path, "b", [shape("cat,old", box(0, 0, 9, 9))])
    with pytest.raises(UserError, match="two labels become one class name, 'cat_old'"):
        listed(tmp_path)


def test_a_picture_turned_by_exif_gets_the_mask_that_was_drawn_upright(tmp_path):
    draw(tmp_path, "a", [shape("cat", box(0, 0, 9, 5))], imageHeight=None, imageWidth=None)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "a.jpg", exif=exif)
    assert (masks_of(listed(tmp_path))["a"] == boxes((1, 0, 0, 9, 5), size=(60, 40))).all()
