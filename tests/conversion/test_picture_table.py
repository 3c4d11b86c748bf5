"""Listing on disk, a part of the names at a time, gives what listing in memory gives."""

import numpy as np
import pytest
from testing.conversion import taken
from testing.picture_files import touch

from petseg.conversion import spill
from petseg.conversion.picture_table import MASKS, PictureTable
from petseg.conversion.sources import folders
from petseg.conversion.sources.base import SourceOptions
from petseg.errors import UserError


def listed(**flags) -> tuple[dict, set, tuple]:
    """Pairs with their splits, findings, and the rest of a listing, in no order."""
    listing = taken(folders.list_folders(SourceOptions(**flags)))
    pairs = {e.name: (e.split, e.pair) for e in listing.examples}
    assert len(pairs) == len(listing.examples)
    rest = listing.masks, listing.split_by, listing.hashed, listing.class_names
    return pairs, set(listing.rejected), rest


def assert_listed_alike(monkeypatch, **flags) -> None:
    expected = listed(**flags)
    for in_memory in (1, 5, 50):
        monkeypatch.setattr(spill, "IN_MEMORY", in_memory)
        assert listed(**flags) == expected
    monkeypatch.undo()


@pytest.mark.parametrize("folder", ["", "train/", "val2017/", "train_val/", "trainval/"])
def test_pairs_findings_and_splits_are_the_same(tmp_path, monkeypatch, folder):
    seed = int(np.random.default_rng().integers(1 << 30))
    print("seed", seed)
    rng = np.random.default_rng(seed)
    names = [f"{folder if i % 3 else ''}n{i:02d}" for i in range(40)]
    names += ["café", "cafe\u0301_", "cafe\u0301"]
    touch(tmp_path, [f"i/{n}.jpg" for n in names if rng.random() < 0.9])
    touch(tmp_path, [f"m/{n}.png" for n in names if rng.random() < 0.9] + ["m/._x.png", "i/a.txt"])
    touch(tmp_path, ["i/two.jpg", "i/two.png", "m/two.png", "m/e\u0301.png", "i/é.jpg"])
    for shares in ({}, {"test_fraction": 0.3}, {"validation_fraction": 0.0}):
        flags = {"images": str(tmp_path / "i"), "masks": str(tmp_path / "m"), **shares}
        assert_listed_alike(monkeypatch, **flags)


def test_side_by_side_and_merged_masks_are_the_same(tmp_path, monkeypatch):
    touch(tmp_path, [f"f/{i}.png" for i in range(12)] + [f"f/{i}_mask.png" for i in range(11)])
    flags = {"images": f"{tmp_path}/f/*.png", "masks": f"{tmp_path}/f/*_mask.png"}
    assert_listed_alike(monkeypatch, **flags)
    assert len(listed(**flags)[0]) == 11
    touch(tmp_path, [f"g/{i}_{c}.png" for i in range(12) for c in ("car", "road")])
    flags = {"images": f"{tmp_path}/f/*.png", "masks": f"{tmp_path}/g/*_{{class}}.png"}
    assert_listed_alike(monkeypatch, **flags)


def test_what_is_wrong_is_said_in_the_same_words(tmp_path, monkeypatch):
    touch(tmp_path, [f"i/x_{i}.png" for i in range(9)] + [f"m/y_{i}.png" for i in range(9)])
    (tmp_path / "link").symlink_to(tmp_path / "i")
    for masks in ("m", "i", "link", "none"):
        flags = {"images": str(tmp_path / "i"), "masks": str(tmp_path / masks)}
        messages = set()
        for in_memory in (1000, 3):
            monkeypatch.setattr(spill, "IN_MEMORY", in_memory)
            with pytest.raises(UserError) as raised:
                listed(**flags)
            messages.add(str(raised.value))
        assert len(messages) == 1


def test_a_part_of_the_keys_at_a_time_is_in_memory(tmp_path, monkeypatch):
    touch(tmp_path, [f"i/{i}.png" for i in range(300)] + [f"m/{i}.png" for i in range(300)])
    monkeypatch.setattr(spill, "IN_MEMORY", 10)
    table = PictureTable()
    table.add_all(str(tmp_path / "i"), str(tmp_path / "m"), [])
    buckets = list(table.buckets())
    assert max(len(images) for images, _ in buckets) < 30
    assert all(images.keys() == masks.keys() for images, masks in buckets)
    assert len(list(table.paths(MASKS))) == 300
