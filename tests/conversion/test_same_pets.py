"""The same pets, converted through several sources, have the same masks."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from testing.annotations import rle, write_json
from testing.conversion import convert

from petseg.cli import draw_toy_pets
from petseg.data import manifest, record

LABELS = {1: "pet", 2: "background", 3: "border"}


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """Eight toy pets in the official layout."""
    folder = tmp_path_factory.mktemp("pets") / "official"
    draw_toy_pets.draw_dataset(folder, 8, 0, 0)
    return folder


def stored(output):
    """Returns name without folders -> mask, of a whole data set."""
    masks = {}
    for split in manifest.read_manifest(str(output)).splits.values():
        paths = manifest.shard_paths(str(output), split)
        for serialized in tf.data.TFRecordDataset(paths):
            fields = record.parse_record(serialized)
            name = fields[record.SOURCE_ID].numpy().decode().rpartition("/")[2]
            masks[name] = record.decode_mask(fields[record.MASK]).numpy()[..., 0]
    return masks


@pytest.fixture(scope="module")
def official(pets, tmp_path_factory):
    output = tmp_path_factory.mktemp("official") / "out"
    convert(pets, output)
    return output


def copied(pets, folder):
    """Returns the masks by name, and copies the images to a folder."""
    folder.mkdir(parents=True)
    masks = {}
    for path in sorted((pets / "annotations/trimaps").glob("[!.]*.png")):
        masks[path.stem] = np.asarray(Image.open(path))
        shutil.copy(pets / "images" / f"{path.stem}.jpg", folder)
    return masks


def assert_same(output, official):
    expected, found = stored(official), stored(output)
    assert expected.keys() == found.keys()
    assert len(found) == 8
    for name, mask in expected.items():
        assert (found[name] == mask).all(), name


def test_folders(pets, official, tmp_path):
    masks = copied(pets, tmp_path / "raw/images")
    (tmp_path / "raw/masks").mkdir()
    for name, mask in masks.items():
        Image.fromarray(mask).save(tmp_path / "raw/masks" / f"{name}.png")
    convert(tmp_path / "raw", tmp_path / "out", source="folders")
    assert_same(tmp_path / "out", official)


def test_voc(pets, official, tmp_path):
    masks = copied(pets, tmp_path / "raw/JPEGImages")
    (tmp_path / "raw/SegmentationClass").mkdir()
    (tmp_path / "raw/ImageSets/Segmentation").mkdir(parents=True)
    for name, mask in masks.items():
        picture = Image.fromarray(mask)
        picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
        picture.save(tmp_path / "raw/SegmentationClass" / f"{name}.png")
    (tmp_path / "raw/ImageSets/Segmentation/trainval.txt").write_text("\n".join(masks))
    convert(tmp_path / "raw", tmp_path / "out", source="voc")
    assert_same(tmp_path / "out", official)


def test_tfds(official, tmp_path):
    convert(official, tmp_path / "out", source="tfds")
    assert_same(tmp_path / "out", official)


def test_tfrecord(official, tmp_path):
    (tmp_path / "raw").mkdir()
    for path in official.glob("*.tfrecord-*"):
        _, split, number, _, count = path.name.replace(".tfrecord", "").split("-")
        shutil.copy(path, tmp_path / "raw" / f"{split}-{number}-of-{count}.tfrecord")
    convert(tmp_path / "raw", tmp_path / "out", source="tfrecord")
    assert_same(tmp_path / "out", official)


def coco_file(masks, outline):
    """Returns a COCO file in which every label but the background is an annotation."""
    annotations = []
    for image, mask in enumerate(masks.values()):
        for value in LABELS:
            for found in outline(mask == value):
                common = {"id": len(annotations), "image_id": image, "iscrowd": 0}
                annotations.append({**common, "category_id": value, "segmentation": found})
    images = [
        {"id": i, "file_name": f"{name}.jpg", "height": mask.shape[0], "width": mask.shape[1]}
        for i, (name, mask) in enumerate(masks.items())
    ]
    # 'background' would be what is not annotated.
    categories = [{"id": value, "name": f"{name}s"} for value, name in LABELS.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def test_coco_with_run_lengths(pets, official, tmp_path):
    masks = copied(pets, tmp_path / "raw/images")
    write_json(
        tmp_path / "raw/annotations/instances.json", coco_file(masks, lambda mask: [rle(mask)])
    )
    convert(tmp_path / "raw", tmp_path / "out", source="coco")
    assert_same(tmp_path / "out", official)


def traced(mask):
    """Returns the outer border of each region of a mask as a polygon of COCO's, without holes.

    It runs along the pixels' edges. Holes are not needed: what lies in them is smaller.
    """
    edges = {}
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    for y, x in np.argwhere(padded & ~np.pad(inner, 1)):
        top, left = y - 1, x - 1
        if not padded[y - 1, x]:
            edges.setdefault((left, top), []).append((left + 1, top))
        if not padded[y, x + 1]:
            edges.setdefault((left + 1, top), []).append((left + 1, top + 1))
        if not padded[y + 1, x]:
            edges.setdefault((left + 1, top + 1), []).append((left, top + 1))
        if not padded[y, x - 1]:
            edges.setdefault((left, top + 1), []).append((left, top))
    rings = []
    while edges:
        start = at = next(iter(edges))
        ring = []
        while True:
            ring.append(at)
            after = edges[at].pop()
            if not edges[at]:
                del edges[at]
            at = after
            if at == start:
                break
        rings.append(ring)
    outer = [ring for ring in rings if area(ring) > 0]
    return [[[int(n) for point in ring for n in point]] for ring in outer]


def area(ring):
    points = np.array(ring)
    x, y = points.T
    return (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2


def test_coco_with_polygons(pets, official, tmp_path):
    masks = copied(pets, tmp_path / "raw/images")
    write_json(tmp_path / "raw/annotations/instances.json", coco_file(masks, traced))
    convert(tmp_path / "raw", tmp_path / "out", source="coco")
    assert_same(tmp_path / "out", official)
