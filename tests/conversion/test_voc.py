"""The source voc: PASCAL VOC's folders and lists, and CVAT's."""

import numpy as np
import pytest
from PIL import Image
from testing.annotations import boxes, draw_images, masks_of, reasons
from testing.conversion import convert, write

from petseg.conversion.sources import voc as source
from petseg.conversion.sources.base import MaskRules, SourceOptions
from petseg.data.label_map import own_label_map
from petseg.errors import UserError

MASK = boxes((255, 4, 4, 21, 16), (8, 5, 5, 20, 15))


def listed(folder, **changes):
    return source.list_voc(SourceOptions(raw_dir=str(folder), **changes))


def draw(folder, lists, masks=None):
    """Writes JPEGImages, SegmentationClass and the lists; returns the folder."""
    names = sorted({name for names in lists.values() for name in names})
    draw_images(folder / "JPEGImages", [f"{name}.jpg" for name in names])
    (folder / "SegmentationClass").mkdir()
    (folder / "ImageSets/Segmentation").mkdir(parents=True)
    for name in names:
        picture = Image.fromarray(MASK if masks is None else masks[name])
        if masks is None:
            picture.putpalette([v for i in range(256) for v in (i * 7 % 256, i * 31 % 256, i)])
        picture.save(folder / f"SegmentationClass/{name}.png")
    for name, of in lists.items():
        path = folder / f"ImageSets/Segmentation/{name}.txt"
        path.write_text("".join(f"{n}\n" for n in of))
    return folder


def test_the_official_layout_gives_its_lists_and_classes(tmp_path):
    lists = {"train": ["2007_01", "2007_02"], "val": ["2007_03"]}
    folder = draw(
        tmp_path / "VOCdevkit/VOC2012",
        {**lists, "trainval": [n for of in lists.values() for n in of]},
    )
    (folder / "ImageSets/Segmentation/test.txt").write_text("2008_01\n2008_02\n")
    draw_images(folder / "JPEGImages", ["2009_01.jpg"])
    listing = listed(tmp_path)
    splits = {e.name: e.split for e in listing.examples}
    assert splits == {"2007_01": "train", "2007_02": "train", "2007_03": "validation"}
    assert reasons(listing) == {
        "test.txt": "list of images whose masks are not there: 2 images",
        "JPEGImages": "images without a mask, in no list of segmentation: 1",
    }
    finished = write(lambda: listing, tmp_path / "out")
    train = finished.splits["train"].pixels_per_label
    assert train == {0: 2 * (2400 - 204), 8: 300, 255: 2 * (204 - 150)}
    label_map = own_label_map(finished)
    assert (label_map.num_classes, label_map.ignored) == (21, (255,))
    assert label_map.names[8] == "cat"


def test_trainval_alone_is_train_and_validation(tmp_path):
    folder = draw(tmp_path, {"trainval": [f"{i}" for i in range(8)]})
    assert {e.split for e in listed(folder).examples} == {"train", "validation"}


def test_other_lists_and_masks_can_be_named(tmp_path):
    folder = draw(tmp_path, {"train": ["a", "b"], "val": ["c"]})
    (folder / "SegmentationClass").rename(folder / "SegmentationClassAug")
    (tmp_path / "aug.txt").write_text("b\nc\n")
    (tmp_path / "val.txt").write_text("/JPEGImages/a.jpg /SegmentationClassAug/a.png\n")
    lists = {"train": str(tmp_path / "aug.txt"), "validation": str(tmp_path / "val.txt")}
    listing = listed(folder, masks=str(folder / "SegmentationClassAug"), lists=lists)
    splits = {e.name: e.split for e in listing.examples}
    assert splits == {"a": "validation", "b": "train", "c": "train"}


def test_cvats_export_is_read_by_its_colours(tmp_path):
    colours = {"cat": (10, 10, 128), "background": (0, 0, 0), "dog": (10, 128, 0)}
    rgb = np.zeros((40, 60, 3), np.uint8)
    rgb[5:15, 5:20] = colours["dog"]
    folder = draw(tmp_path, {"default": ["a", "b", "c", "d"]}, dict.fromkeys("abcd", rgb))
    lines = [f"{name}:{','.join(map(str, c))}::" for name, c in colours.items()]
    header = "# label:color_rgb:parts:actions"
    (folder / "labelmap.txt").write_text("\n".join([header, *lines]) + "\n")
    finished = write(lambda: listed(folder), tmp_path / "out")
    assert finished.raw_labels == {0: "background", 1: "cat", 2: "dog"}
    assert finished.splits["train"].pixels_per_label == {0: 3 * 2250, 2: 3 * 150}
    ignoring = listed(folder, mask_rules=MaskRules(None, ignored=255)).masks
    assert (ignoring.names[255], ignoring.ignored) == ("ignored", 255)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("cat:300,0,0::\n", "line 1: colour '300,0,0' is neither"),
        ("background:0,0,0::\na:1,1,1::\nb:1,1,1::\n", "line 3: the colour #010101 is dup"),
        ("background:0,0,0::\na;b=c:1,1,1::\n", "line 2: 'a;b=c' cannot be a class name"),
    ],
)
def test_a_wrong_labelmap_is_refused(tmp_path, lines, message):
    folder = draw(tmp_path, {"train": ["a"], "val": ["b"]})
    (folder / "labelmap.txt").write_text(lines)
    with pytest.raises(UserError, match=f"labelmap.txt, {message}"):
        listed(folder)


def test_a_class_file_and_another_void(tmp_path):
    folder = draw(tmp_path, {"train": ["a"], "val": ["b"]})
    rules = MaskRules({0: "background", 8: "cat", 255: "ignored"}, {}, 255)
    assert listed(folder, mask_rules=rules).masks == rules
    found = listed(folder, mask_rules=MaskRules(None, ignored=7)).masks
    assert (found.ignored, found.names[7], found.names[255]) == (7, "ignored", "ignored")


def test_what_is_listed_and_missing_is_a_loss(tmp_path):
    folder = draw(tmp_path, {"train": ["a", "b", "c"], "val": ["d", "a"]})
    (folder / "JPEGImages/b.jpg").unlink()
    (folder / "SegmentationClass/c.png").unlink()
    draw_images(folder / "SegmentationClass", ["e.png"])
    found = {(f.name, f.split, f.reason) for f in listed(folder).rejected}
    assert found == {
        ("a", "validation", "listed more than once; the first listing counts"),
        ("b", "train", "listed, but image missing"),
        ("c", "train", "listed, but mask missing"),
        ("e", "", "mask in no list"),
    }


@pytest.mark.parametrize("missing", ["JPEGImages", "SegmentationClass"])
def test_a_missing_folder_is_named(tmp_path, missing):
    folder = draw(tmp_path, {"train": ["a"], "val": ["b"]})
    (folder / missing).rename(folder / "other")
    with pytest.raises(UserError, match=missing):
        listed(folder)


def test_a_line_of_a_list_pairs_an_image_with_a_mask_of_another_name(tmp_path):
    of = {name: np.full((40, 60), value, np.uint8) for value, name in enumerate("abcd", 1)}
    folder = draw(tmp_path, {"train": list("abcd")}, of)
    (folder / "SegmentationClass/b.png").rename(folder / "SegmentationClass/b_seg.png")
    lines = ["a.jpg SegmentationClass/d.png", "JPEGImages/b.jpg b_seg.png", "x.jpg y.png"]
    (tmp_path / "t.txt").write_text("\n".join(lines))
    (tmp_path / "v.txt").write_text("c\n")
    lists = {"train": str(tmp_path / "t.txt"), "validation": str(tmp_path / "v.txt")}
    listing = listed(folder, lists=lists)
    values = {name: int(mask[0, 0]) for name, mask in masks_of(listing).items()}
    assert values == {"a": 4, "b": 2, "c": 3}
    assert reasons(listing) == {
        "x.jpg y": "listed, but image and mask missing",
        "d": "in no list",
    }


def test_masks_of_one_class_are_read_as_the_flag_says(tmp_path):
    lists = {"train": ["a"], "val": ["b"]}
    folder = draw(tmp_path / "raw", lists, dict.fromkeys("ab", boxes((200, 5, 5, 20, 15))))
    finished = convert(folder, tmp_path / "out", source="voc", binary=True)
    assert finished.raw_labels == {0: "background", 1: "foreground"}
    assert finished.splits["train"].pixels_per_label == {0: 2250, 1: 150}
