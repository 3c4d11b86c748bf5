"""The source coco: instances as JSON."""

import json

import numpy as np
import pytest
from testing.annotations import (
    HEIGHT,
    WIDTH,
    boxes,
    coco,
    draw_images,
    flat_box,
    masks_of,
    reasons,
    rle,
    runs,
    write_json,
)
from testing.conversion import write

from petseg.conversion import review
from petseg.conversion import rle as rle_decoding
from petseg.conversion.sources import coco as source
from petseg.conversion.sources.base import MaskRules, SourceOptions
from petseg.errors import UserError

NAMES = {1: "a.jpg", 2: "b.jpg"}
CATEGORIES = {3: "cat", 18: "dög"}


def listed(folder, **changes):
    return source.list_coco(SourceOptions(raw_dir=str(folder), **changes))


def polygon(image, category, *corners, **more):
    outline = [flat_box(*corners)]
    return {"image_id": image, "category_id": category, "segmentation": outline, **more}


def draw(folder, annotations, images=NAMES, categories=CATEGORIES):
    """Writes images/ and annotations/instances.json; returns the folder."""
    draw_images(folder / "images", list(dict.fromkeys(images.values())))
    write_json(folder / "annotations/instances.json", coco(images, annotations, categories))
    return folder


@pytest.mark.parametrize("encode", [None, rle, runs])
def test_objects_become_the_ids_of_their_categories(tmp_path, encode):
    annotations = [polygon(1, 3, 5, 5, 20, 15), polygon(1, 18, 30, 10, 50, 39)]
    if encode:
        for annotation, corners in zip(
            annotations, [(5, 5, 20, 15), (30, 10, 50, 39)], strict=True
        ):
            annotation["segmentation"] = encode(boxes((1, *corners)))
    listing = listed(draw(tmp_path, annotations))
    masks = masks_of(listing)
    assert (masks["images/a"] == boxes((3, 5, 5, 20, 15), (18, 30, 10, 50, 39))).all()
    assert not masks["images/b"].any()  # listed without annotations: all background
    assert listing.masks.names == {0: "background", 3: "cat", 18: "dög", 255: "ignored"}
    assert listing.masks.ignored == 255
    assert listing.rejected == ()


def test_smaller_objects_lie_on_top_and_crowds_are_ignored(tmp_path):
    crowd = {"image_id": 1, "category_id": 3, "iscrowd": 1}
    crowd["segmentation"] = runs(boxes((1, 10, 10, 30, 30)))
    annotations = [
        polygon(1, 18, 12, 12, 16, 16),
        crowd,
        polygon(1, 3, 0, 0, 60, 40),
    ]
    expected = boxes((3, 0, 0, 60, 40), (255, 10, 10, 30, 30), (18, 12, 12, 16, 16))
    folder = draw(tmp_path, annotations)
    assert (masks_of(listed(folder))["images/a"] == expected).all()
    expected[expected == 255] = 9
    rules = MaskRules(None, ignored=9)
    assert (masks_of(listed(folder, mask_rules=rules))["images/a"] == expected).all()


def test_an_object_of_several_parts_is_their_union(tmp_path):
    parts = [flat_box(1, 1, 5, 5), flat_box(3, 3, 9, 9), flat_box(70, 1, 80, 5)]
    found = [{"image_id": 1, "category_id": 3, "segmentation": parts}]
    masks = masks_of(listed(draw(tmp_path, found)))
    assert (masks["images/a"] == boxes((3, 1, 1, 5, 5), (3, 3, 3, 9, 9))).all()


def test_the_official_layout_needs_the_folder_alone(tmp_path):
    for split, count in (("train", 6), ("val", 3)):
        names = {i: f"{split[0]}{i:011d}.jpg" for i in range(count)}
        draw_images(tmp_path / f"{split}2017", list(names.values()))
        content = coco(names, [polygon(i, 3, 1, 1, 9, 9) for i in names], CATEGORIES)
        write_json(tmp_path / f"annotations/instances_{split}2017.json", content)
        write_json(tmp_path / f"annotations/captions_{split}2017.json", {"annotations": []})
    listing = listed(tmp_path)
    splits = {e.name: e.split for e in listing.examples}
    assert splits == {
        **{f"train2017/t{i:011d}": "train" for i in range(6)},
        **{f"val2017/v{i:011d}": "validation" for i in range(3)},
    }
    assert listing.split_by == "the annotation files"
    by_flags = source.list_coco(
        SourceOptions(
            annotations=str(tmp_path / "annotations/instances_train2017.json"),
            images=str(tmp_path / "train2017"),
        )
    )
    assert {e.split for e in by_flags.examples} == {"train", "validation"}
    assert len(by_flags.examples) == 6


def test_roboflows_layout_with_equal_names_and_a_category_0(tmp_path):
    categories = {0: "animals", 1: "cat", 2: "dog"}
    for split, at in (("train", 5), ("valid", 20), ("test", 30)):
        draw_images(tmp_path / split, ["1.jpg"])
        content = coco({0: "1.jpg"}, [polygon(0, 2, at, 5, at + 4, 9)], categories)
        write_json(tmp_path / split / "_annotations.coco.json", content)
    listing = listed(tmp_path)
    assert {e.name: e.split for e in listing.examples} == {
        **{"train/1": "train", "valid/1": "validation", "test/1": "test"}
    }
    assert (masks_of(listing)["valid/1"] == boxes((2, 20, 5, 24, 9))).all()
    assert listing.masks.names == {0: "background", 1: "cat", 2: "dog", 255: "ignored"}


def test_ids_that_no_mask_can_hold_are_numbered_by_name(tmp_path):
    found = [polygon(1, 900, 1, 1, 9, 9), polygon(1, 0, 20, 1, 29, 9)]
    listing = listed(draw(tmp_path, found, categories={900: "ant", 0: "bee"}))
    assert listing.masks.names == {0: "background", 1: "ant", 2: "bee", 255: "ignored"}
    assert (masks_of(listing)["images/a"] == boxes((1, 1, 1, 9, 9), (2, 20, 1, 29, 9))).all()


def test_the_class_file_picks_and_numbers_labels(tmp_path):
    found = [polygon(1, 3, 1, 1, 9, 9), polygon(2, 18, 1, 1, 9, 9)]
    rules = MaskRules({0: "background", 7: "cat"})
    listing = listed(draw(tmp_path, found), mask_rules=rules)
    masks = masks_of(listing)
    assert (masks["images/a"] == boxes((7, 1, 1, 9, 9))).all()
    assert masks["images/b"] == "label of no class in --classes: 'dög', annotation 2"
    with pytest.raises(UserError, match="id 0 is 'cat', but pixels that no shape covers"):
        listed(tmp_path, mask_rules=MaskRules({0: "cat", 1: "dog"}))


def test_annotations_before_images_are_checked_too(tmp_path):
    folder = draw(tmp_path, [polygon(1, 3, 90, 1, 95, 9)])
    path = folder / "annotations/instances.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(content.items())), indent=1))
    assert "wholly outside" in reasons(listed(folder))["images/a"]


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (polygon(1, 3, 90, 1, 95, 9), "lies wholly outside the image: 'cat', annotation 1"),
        (polygon(1, 3, -9, -9, -1, -1), "lies wholly outside the image: 'cat', annotation 1"),
        (
            {"image_id": 1, "category_id": 3, "segmentation": [[1, 1, 5, 5]]},
            "polygon of fewer than 3 points: 2: 'cat', annotation 1",
        ),
    ],
)
def test_shapes_without_pixels_are_left_out_and_named(tmp_path, annotation, reason):
    listing = listed(draw(tmp_path, [annotation, polygon(1, 18, 1, 1, 9, 9)]))
    assert reasons(listing) == {"images/a": f"shape left out, {reason}"}
    assert (masks_of(listing)["images/a"] == boxes((18, 1, 1, 9, 9))).all()


def other_size():
    return {"size": [HEIGHT, WIDTH + 1], "counts": [HEIGHT * (WIDTH + 1)]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"segmentation": other_size()}, "RLE of another size: 61x40 px, its image 60x40, annotat"),
        (
            {"segmentation": {"size": [40, 60], "counts": [5]}},
            "RLE does not fill its size: 5 pix",
        ),
        ({"segmentation": {"size": [40, 60], "counts": "zz"}}, "RLE is damaged"),
        ({"segmentation": {"size": [40, 60], "counts": [-1, 2401]}}, "a run is negative"),
        ({"segmentation": [[1, 1, float("nan"), 5, 9, 9]]}, "finite number"),
        ({"segmentation": [[1, 1, 5, 5, 9, 9, 7]]}, "points are no pairs of numbers: annotation 1"),
        ({"segmentation": [["1", 1, 5, 5, 9, 9]]}, "annotation is malformed"),
        ({"segmentation": []}, "annotation is a box without an outline: annotation 1"),
        ({"category_id": 5}, "of a category that the file does not list: category_id 5"),
    ],
)
def test_what_cannot_be_drawn_rejects_its_image_alone(tmp_path, change, reason):
    folder = draw(tmp_path, [{**polygon(1, 3, 1, 1, 9, 9), **change}, polygon(2, 3, 1, 1, 9, 9)])
    masks = masks_of(listed(folder))
    assert reason in masks["images/a"]
    assert (masks["images/b"] == boxes((3, 1, 1, 9, 9))).all()


def test_images_that_are_missing_unnamed_or_named_twice_are_told(tmp_path):
    images = {**NAMES, 3: "gone.jpg", 4: "a.jpg"}
    found = [polygon(1, 3, 1, 1, 9, 9), polygon(77, 3, 1, 1, 9, 9)]
    folder = draw(tmp_path, found, images)
    (folder / "images/gone.jpg").unlink()
    draw_images(folder / "images", ["more.jpg"])
    assert reasons(listed(folder)) == {
        "a.jpg": "image is annotated a second time; the first annotation counts",
        "gone.jpg": "image that the annotations name is missing",
        "images/more": "image that no annotation names",
        str(folder / "annotations/instances.json"): "annotations of an image that the file does "
        "not list: 1 of image_id 77",
    }
    again = coco({9: "b.jpg"}, [], CATEGORIES)
    write_json(folder / "annotations/instances_more.json", again)
    assert reasons(listed(folder))["images/b"].startswith("image is annotated a second time")


def test_ids_that_repeat_are_told(tmp_path):
    folder = draw(tmp_path, [polygon(1, 3, 1, 1, 9, 9, id=5), polygon(2, 3, 1, 1, 9, 9, id=5)])
    path = folder / "annotations/instances.json"
    assert "all are drawn: 1 ids, the first 5" in reasons(listed(folder))[str(path)]
    content = json.loads(path.read_text())
    content["images"].append({**content["images"][0], "file_name": "c.jpg"})
    path.write_text(json.dumps(content))
    draw_images(folder / "images", ["c.jpg"])
    found = reasons(listed(folder))
    for name in ("a.jpg", "c.jpg"):
        assert found[name] == "id of images that repeats, so that their annotations mix: 1"
    content["categories"].append({"id": 3, "name": "cow"})
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="category id 3 repeats: 'cat' and 'cow'"):
        listed(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"shapes": [], "imagePath": "a.jpg"}', "LabelMe's annotations, which --source=labelme"),
        ('{"images": [], "annotations": []}', "it has no 'categories'"),
        ('{"images": [{"id": 1}]', r"images\[0\].*file_name"),
        ('{"images": [', "JSON is broken at byte 12"),
        ("[]", "an object, {...}, is expected"),
        ("", "JSON is broken at byte 0"),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path, content, message):
    draw_images(tmp_path, ["a.jpg"])
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError, match=message) as error:
        listed(tmp_path)
    assert "x.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_missing_and_no_flags_at_all_are_refused(tmp_path):
    draw_images(tmp_path, ["a.jpg"])
    with pytest.raises(UserError, match=r"no\.json: No such file"):
        listed(tmp_path, annotations=str(tmp_path / "no.json"))
    with pytest.raises(UserError, match=r"holds no \.json file"):
        listed(tmp_path)
    with pytest.raises(UserError, match="needs --raw_dir, or --annotations"):
        source.list_coco(SourceOptions())


def test_too_many_categories_are_refused(tmp_path):
    many = {i: f"c{i}" for i in range(1, 300)}
    with pytest.raises(UserError, match="299 labels, and a mask holds at most 254"):
        listed(draw(tmp_path, [], categories=many))


def test_what_is_listed_is_small_and_read_as_it_was(tmp_path):
    folder = draw(tmp_path, [polygon(1, 3, 1, 1, 9, 9)] * 3)
    listing = listed(folder)
    pair = next(e.pair for e in listing.examples if e.name == "images/a")
    assert len(pair.annotation.spans) == 6
    path = folder / "annotations/instances.json"
    path.write_text(path.read_text().replace('"image_id": 1', '"image_id": 2'))
    assert "have changed since they were listed" in masks_of(listing)["images/a"]


def test_a_data_set_is_written_and_accounted_for(tmp_path):
    names = {i: f"{i}.jpg" for i in range(8)}
    folder = draw(tmp_path / "raw", [polygon(i, 3, 1, 1, 9, 9) for i in names], names)
    finished = write(lambda: listed(folder, validation_fraction=0.25), tmp_path / "out")
    assert sum(split.records for split in finished.splits.values()) == 8
    counts = finished.splits["train"].pixels_per_label
    assert counts[3] == 64 * finished.splits["train"].records
    assert np.all([finished.raw_labels[v] for v in counts] == ["background", "cat"])


def test_a_mask_of_impossible_size_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    size = {"height": 60_000, "width": 400_000}
    outline = {"size": [60_000, 400_000], "counts": [60_000 * 400_000]}
    annotation = {**polygon(1, 3, 1, 1, 9, 9), "segmentation": outline}
    folder = draw(tmp_path, [annotation])
    path = folder / "annotations/instances.json"
    content = json.loads(path.read_text())
    content["images"][0] |= size
    write_json(path, content)
    monkeypatch.setattr(rle_decoding, "decode", None)
    assert "annotated image claims 400,000x60,000 px" in masks_of(listed(folder))["images/a"]


def test_an_image_of_several_files_is_a_loss(tmp_path):
    folder = draw(tmp_path, [polygon(1, 3, 1, 1, 9, 9)], {1: "a.jpg", 2: "x/c.jpg"})
    (folder / "images/y").mkdir()
    draw_images(folder / "images/y", ["c.jpg"])
    path = folder / "annotations/instances.json"
    path.write_text(path.read_text().replace("x/c.jpg", "c.jpg"))
    (found,) = [f for f in listed(folder).rejected if f.name == "c.jpg"]
    assert found.reason == "several images have the name that the annotations give: 2"
    assert review.is_loss(found)
