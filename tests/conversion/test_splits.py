import pytest
from hypothesis import given
from hypothesis import strategies as st
from testing.conversion import taken
from testing.picture_files import touch

from petseg.conversion import splits
from petseg.conversion.sources import folders
from petseg.conversion.sources.base import SourceOptions, hash_order, split_by_hash
from petseg.errors import UserError


def splits_of(folder, **changes):
    """Name -> split; and the listing."""
    options = SourceOptions(images=str(folder / "i"), masks=str(folder / "m"), **changes)
    listing = taken(folders.list_folders(options))
    return {example.name: example.split for example in listing.examples}, listing


def draw(folder, names):
    return touch(folder, [f"i/{n}.jpg" for n in names] + [f"m/{n}.png" for n in names])


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *((name, "train") for name in ("train", "Train", "TRAIN", "train2017", "training", "trn")),
        *((name, "train") for name in ("train_images", "images-train", "trainImages", "train 1")),
        *((name, "validation") for name in ("val", "val2017", "valid", "validation", "dev")),
        *((name, "validation") for name in ("eval", "ValMasks", "valid_set", "evaluation")),
        *((name, "test") for name in ("test", "test2017", "testing", "test_data", "Test_Labels")),
        *((name, None) for name in ("trainers", "tests2", "latest", "train_val", "crash_test")),
        *((name, None) for name in ("images", "2017", "", "trainval")),
    ],
)
def test_the_usual_names_of_folders_are_splits(name, split):
    assert splits.split_of_folder(name) == split


def test_splits_of_folders_are_kept_though_a_pair_lies_outside(tmp_path):
    names = ["train2017/a", "train2017/b", "val2017/c", "dev/d", "stray"]
    found, listing = splits_of(draw(tmp_path, names))
    assert found == {
        "train2017/a": "train",
        "train2017/b": "train",
        "val2017/c": "validation",
        "dev/d": "validation",
    }
    assert listing.split_by == "sub-folders"
    assert [(f.name, f.reason) for f in listing.rejected] == [("stray", splits.OUTSIDE)]


def test_without_a_folder_for_it_train_is_all_that_lies_elsewhere(tmp_path):
    names = ["a", "b", "cats/c", "test/d", "val/e"]
    found, listing = splits_of(draw(tmp_path, names))
    expected = {"a": "train", "b": "train", "cats/c": "train", "test/d": "test"}
    assert found == {**expected, "val/e": "validation"}
    assert listing.split_by == "sub-folders, train of all others"
    assert listing.rejected == ()


def test_trainval_is_train_unless_there_is_a_train(tmp_path):
    found, _ = splits_of(
        draw(tmp_path / "x", ["trainval/a", "trainval/b", "test/a"]), validation_fraction=0.0
    )
    assert found == {"trainval/a": "train", "trainval/b": "train", "test/a": "test"}
    found, listing = splits_of(draw(tmp_path / "y", ["trainval/a", "train/a", "val/b"]))
    assert found == {"train/a": "train", "val/b": "validation"}
    assert [f.name for f in listing.rejected] == ["trainval/a"]


def test_folders_that_look_like_splits_and_are_none_are_named(tmp_path):
    names = ["train_val/a", "train_val/b", "cats/c", "dogs/d"]
    found, listing = splits_of(draw(tmp_path, names), validation_fraction=0.0)
    assert found == dict.fromkeys(names, "train")
    ((name, reason),) = [(f.name, f.reason) for f in listing.rejected]
    assert name == "train_val"
    assert "ignored" in reason and "--train_list" in reason
    # Other folders need no word.
    assert splits_of(draw(tmp_path / "other", ["cats/c", "dogs/d"]))[1].rejected == ()


def test_a_data_set_may_be_a_test_set_alone(tmp_path):
    names = [f"n{i}" for i in range(5)]
    everything = dict.fromkeys(names, "test")
    assert splits_of(draw(tmp_path / "x", names), test_fraction=1.0)[0] == everything
    nested, _ = splits_of(draw(tmp_path / "y", [f"test/{n}" for n in names]))
    assert nested == {f"test/{n}": "test" for n in names}
    (tmp_path / "test.txt").write_text("\n".join(names))
    (tmp_path / "train.txt").write_text("")
    lists = {split: str(tmp_path / f"{split}.txt") for split in ("train", "test")}
    assert splits_of(tmp_path / "x", lists=lists)[0] == everything


@pytest.mark.parametrize(("validation", "test"), [(0.5, 0.5), (0.1, 1.1), (0.1, -0.1), (1.0, 0.0)])
def test_shares_that_leave_nothing_are_refused(tmp_path, validation, test):
    draw(tmp_path, ["a"])
    with pytest.raises(UserError, match="_fraction"):
        splits_of(tmp_path, validation_fraction=validation, test_fraction=test)


NAMES = st.sets(st.text("abcdefgh", min_size=1, max_size=6), min_size=1, max_size=60)


@given(NAMES, st.sampled_from([0.0, 0.1, 0.3, 0.9]), st.sampled_from([0.0, 0.05, 0.09]))
def test_no_split_is_empty_that_others_can_spare_a_name_for(names, validation, test):
    by_hash = {name: split_by_hash(name, validation, test) for name in names}
    wanted = splits.wanted_splits(validation, test)
    chosen = splits.without_empty_splits(by_hash, wanted)
    assert chosen.keys() == names
    assert len(set(chosen.values())) == min(len(wanted), len(names))
    empty = set(wanted) - set(by_hash.values())
    moved = {name for name in names if chosen[name] != by_hash[name]}
    # As few names move as can: where no split was empty, none.
    assert len(moved) <= len(empty)
    assert {chosen[name] for name in moved} <= empty
    # The order of the names plays no part.
    again = {name: by_hash[name] for name in sorted(names, key=hash_order, reverse=True)}
    assert splits.without_empty_splits(again, wanted) == chosen


@pytest.mark.parametrize(("count", "fraction"), [(2, 0.1), (6, 0.1), (9, 0.3), (20, 0.1)])
def test_small_sets_have_a_validation_split(tmp_path, count, fraction):
    for start in range(8):
        folder = tmp_path / str(start)
        names = [f"{start}_{i}" for i in range(count)]
        found, listing = splits_of(draw(folder, names), validation_fraction=fraction)
        assert set(found.values()) == {"train", "validation"}
        assert listing.split_by == "a hash of each name"
        nested = draw(folder / "nested", [f"train/{name}" for name in names])
        found, _ = splits_of(nested, validation_fraction=fraction)
        assert set(found.values()) == {"train", "validation"}
