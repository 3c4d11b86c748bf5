"""The source cityscapes: leftImg8bit and gtFine."""

import pytest
from PIL import Image
from testing.annotations import boxes, draw_images, reasons
from testing.conversion import write

from petseg.conversion.sources import cityscapes as source
from petseg.conversion.sources.base import MaskRules, SourceOptions
from petseg.data.label_map import choose_label_map, parse_label_map
from petseg.errors import UserError

MASK = boxes((7, 0, 20, 60, 40), (26, 10, 10, 30, 25), (4, 0, 0, 60, 2))
FRAMES = {
    "train": ["aachen_000000_000019", "aachen_000001_000019", "bochum_000000_000313"],
    "val": ["frankfurt_000000_000294"],
    "test": ["berlin_000000_000019"],
}


def listed(folder, **changes):
    return source.list_cityscapes(SourceOptions(raw_dir=str(folder), **changes))


def draw(folder, frames=FRAMES, kind="gtFine"):
    for split, names in frames.items():
        for name in names:
            place = f"{split}/{name.partition('_')[0]}/{name}"
            draw_images(folder / "leftImg8bit", [f"{place}_leftImg8bit.png"])
            for what in ("labelIds", "instanceIds", "color", "labelTrainIds"):
                path = folder / kind / f"{place}_{kind}_{what}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(MASK).save(path)
            path.with_name(f"{name}_{kind}_polygons.json").write_text("{}")
    return folder


def test_label_ids_are_stored_and_the_19_classes_are_a_label_map(tmp_path):
    listing = listed(draw(tmp_path))
    splits = {e.name: e.split for e in listing.examples}
    assert splits == {
        **{f"train/{n.partition('_')[0]}/{n}": "train" for n in FRAMES["train"]},
        "val/frankfurt/frankfurt_000000_000294": "validation",
    }
    (reason,) = reasons(listing).values()
    assert reason.endswith("because they are not public: 1 images")
    finished = write(lambda: listing, tmp_path / "out")
    assert finished.splits["train"].pixels_per_label == {
        **{0: 3 * (2400 - 1100 - 300 - 120), 4: 360, 7: 3 * (1200 - 100), 26: 900}
    }
    label_map = choose_label_map("cityscapes_19", finished)
    assert label_map.num_classes == 19
    table = label_map.class_ids()
    assert [int(table[v]) for v in (7, 8, 11, 26, 33, 0, 4, 29)] == [0, 1, 2, 13, 18, 255, 255, 255]


def test_the_train_ids_are_those_of_the_benchmark():
    expected = {
        **{"road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17},
        **{"traffic light": 19, "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23},
        **{"person": 24, "rider": 25, "car": 26, "truck": 27, "bus": 28, "train": 31},
        **{"motorcycle": 32, "bicycle": 33},
    }
    label_map = parse_label_map("cityscapes_19")
    assert dict(zip(label_map.names, label_map.raw_values, strict=True)) == {
        name: (value,) for name, value in expected.items()
    }
    assert len(source.NAMES) == 34
    assert len(label_map.ignored) == 15


def test_coarse_masks_and_splits_that_fine_ones_lack(tmp_path):
    folder = draw(tmp_path, {"train": FRAMES["train"], "train_extra": ["bonn_000000_000019"]})
    for path in (folder / "gtFine/train_extra").rglob("*"):
        if path.is_file():
            path.unlink()
    assert reasons(listed(folder)) == {"train_extra": "split without masks in gtFine: 1 images"}
    draw(tmp_path, {"train_extra": ["bonn_000000_000019"]}, "gtCoarse")
    listing = listed(folder, masks=str(folder / "gtCoarse"), validation_fraction=0.0)
    assert [e.name for e in listing.examples] == ["train_extra/bonn/bonn_000000_000019"]


def test_images_and_masks_without_partner_are_losses(tmp_path):
    folder = draw(tmp_path)
    name = "aachen/aachen_000000_000019"
    (folder / f"gtFine/train/{name}_gtFine_labelIds.png").unlink()
    assert reasons(listed(folder))[f"train/{name}"] == "image without a mask of its name"


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="has neither gtFine nor gtCoarse"):
        listed(tmp_path)
    (tmp_path / "gtFine").mkdir()
    with pytest.raises(UserError, match="leftImg8bit is not a folder"):
        listed(tmp_path)


def test_a_value_besides_the_label_ids_may_be_ignored(tmp_path):
    folder = draw(tmp_path)
    rules = listed(folder, mask_rules=MaskRules(None, ignored=255)).masks
    assert (rules.names[255], rules.ignored, rules.names[7]) == ("ignored", 255, "road")
    assert "ignore_id" in source.CITYSCAPES.options
    with pytest.raises(UserError, match="--ignore_id=7 is 'road' in cityscapes"):
        listed(folder, mask_rules=MaskRules(None, ignored=7))
