"""Damaged and huge files of annotations end in one line, or reject an image with its reason."""

import copy
import json
import os
import random

import pytest
from testing.annotations import (
    box,
    boxes,
    coco,
    draw_images,
    flat_box,
    masks_of,
    rle,
    write_json,
)

from petseg.conversion.sources.base import SourceOptions
from petseg.errors import UserError
from petseg.registry import SOURCES

REGION = {
    "shape_attributes": {"name": "rect", "x": 5, "y": 6, "width": 10, "height": 8},
    "region_attributes": {"kind": "cat"},
}
ODD = (None, -1, 0, 1e308, float("nan"), "", "x", [], {}, [[]], True, 10**30, "\ud800", [1, 2])
ROUNDS = 120


def files():
    """Returns source -> the name and content of its file."""
    annotations = [
        {"image_id": 1, "category_id": 3, "segmentation": [flat_box(1, 1, 9, 9)]},
        {"image_id": 1, "category_id": 4, "segmentation": rle(boxes((1, 3, 3, 8, 30)))},
    ]
    shape = {"label": "cat", "points": box(1, 1, 9, 9), "shape_type": "polygon"}
    return {
        "coco": ("instances.json", coco({1: "a.jpg"}, annotations, {3: "cat", 4: "dog"})),
        "labelme": (
            "a.json",
            {"shapes": [shape], "imagePath": "a.jpg", "imageHeight": 40, "imageWidth": 60},
        ),
        "via": ("p.json", {"a.jpg1": {"filename": "a.jpg", "regions": [REGION]}}),
    }


def listed(source, folder):
    return SOURCES.get(source).list_examples(SourceOptions(raw_dir=str(folder)))


def assert_ends_well(source, folder):
    try:
        listing = listed(source, folder)
        for mask in masks_of(listing).values():
            assert not isinstance(mask, str) or "\n" not in mask
        assert all("\n" not in finding.reason for finding in listing.rejected)
    except UserError as error:
        assert "\n" not in str(error)


def change_one(content, rng):
    """Replaces, removes or doubles a value anywhere in a JSON value."""
    places, pending = [], [content]
    while pending:
        inner = pending.pop()
        keys = list(inner) if isinstance(inner, dict) else range(len(inner))
        places += [(inner, key) for key in keys]
        pending += [inner[key] for key in keys if isinstance(inner[key], (dict, list))]
    if not places:
        return
    inner, key = rng.choice(places)
    action = rng.choice(("odd", "odd", "odd", "remove", "double"))
    if action == "odd":
        inner[key] = copy.deepcopy(rng.choice(ODD))
    elif action == "remove":
        del inner[key]
    elif isinstance(inner, list):
        inner.append(copy.deepcopy(inner[key]))


@pytest.mark.parametrize("source", ["coco", "labelme", "via"])
def test_values_that_are_changed(tmp_path, source):
    draw_images(tmp_path, ["a.jpg"])
    for seed in range(ROUNDS):
        print("seed", seed)
        name, content = files()[source]
        rng = random.Random(seed)
        for _ in range(rng.randint(1, 3)):
            change_one(content, rng)
        write_json(tmp_path / name, content)
        assert_ends_well(source, tmp_path)


@pytest.mark.parametrize("source", ["coco", "labelme", "via"])
def test_bytes_that_are_changed(tmp_path, source):
    draw_images(tmp_path, ["a.jpg"])
    name, content = files()[source]
    for seed in range(ROUNDS):
        print("seed", seed)
        rng, text = random.Random(seed), bytearray(json.dumps(content).encode())
        if rng.random() < 0.3:
            del text[rng.randrange(len(text)) :]
        for _ in range(rng.randint(1, 4)):
            if text:
                text[rng.randrange(len(text))] = rng.choice(b'[]{},:"019.-eE \\x\xff\x00')
        (tmp_path / name).write_bytes(text)
        assert_ends_well(source, tmp_path)


def test_lines_of_yolo_that_are_changed(tmp_path):
    draw_images(tmp_path, ["a.jpg"])
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\n")
    text = "0 0.1 0.1 0.5 0.1 0.5 0.5\n1 0.2 0.2 0.4 0.2 0.4 0.4\n"
    for seed in range(ROUNDS):
        print("seed", seed)
        rng, changed = random.Random(seed), bytearray(text.encode())
        for _ in range(rng.randint(1, 5)):
            changed[rng.randrange(len(changed))] = rng.choice(b"0123456789.-e \nx\xff\x00")
        (tmp_path / "a.txt").write_bytes(changed)
        assert_ends_well("yolo", tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [("via", "2,147,483,648 bytes; at most"), ("labelme", "2,147,483,648 bytes; at most")],
)
def test_a_file_of_2_gib_is_refused_before_it_is_read(tmp_path, source, message):
    draw_images(tmp_path, ["a.jpg"])
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(2 << 30)
    with pytest.raises(UserError, match=message):
        listed(source, tmp_path)


@pytest.mark.parametrize("source", ["coco", "labelme", "via"])
def test_a_fifo_is_refused(tmp_path, source):
    draw_images(tmp_path, ["a.jpg"])
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(UserError, match="it is a FIFO"):
        listed(source, tmp_path)
