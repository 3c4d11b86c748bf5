import collections

import numpy as np
import pytest
from PIL import Image
from testing.conversion import convert

from petseg.conversion import regroup
from petseg.conversion.regroup import RegroupOptions
from petseg.conversion.sources.base import (
    MaskRules,
    SourceExample,
    SourceListing,
    hash_order,
    split_by_hash,
)
from petseg.data import manifest, record
from petseg.errors import UserError


def listing_of(names, split="train", hashed=("train", "validation", "test"), classes=None):
    """A listing whose files are never read."""
    examples = tuple(
        SourceExample(name, split, None, classes[name] if classes else 0) for name in names
    )
    return SourceListing(examples, (), MaskRules(None), ("any",), "a hash of each name", hashed)


def splits_of(listing):
    return {example.name: example.split for example in listing.examples}


PATIENTS = [f"p{patient:02}_{scan}" for patient in range(40) for scan in range(1 + patient % 5)]
BY_PATIENT = r"^(p\d+)_"


@pytest.mark.parametrize("stratify", ["", "class"])
def test_no_patient_is_in_two_splits(stratify):
    classes = {name: int(name[1:3]) % 3 for name in PATIENTS}
    options = RegroupOptions((BY_PATIENT,), stratify, 0.2, 0.2)
    listing = regroup.regroup(listing_of(PATIENTS, classes=classes), options)
    facts = listing.facts
    of_patient = collections.defaultdict(set)
    for name, split in splits_of(listing).items():
        of_patient[name[:3]].add(split)
    assert all(len(splits) == 1 for splits in of_patient.values())
    assert set(splits_of(listing).values()) == {"train", "validation", "test"}
    assert facts["names_without_a_group"] == 0
    assert "(32 groups, 8 images alone)" in listing.split_by
    # Whatever the order of listing.
    turned = regroup.regroup(listing_of(PATIENTS[::-1], classes=classes), options)
    assert splits_of(turned) == splits_of(listing)


def test_a_new_patient_moves_no_other_one():
    options = RegroupOptions((BY_PATIENT,), "", 0.2, 0.2)
    before = splits_of(regroup.regroup(listing_of(PATIENTS), options))
    after = splits_of(regroup.regroup(listing_of([*PATIENTS, "p99_0", "x"]), options))
    assert before.items() < after.items()
    assert after["x"] == split_by_hash("x", 0.2, 0.2)


def test_splits_that_are_given_stay_and_what_is_torn_is_counted():
    test = [SourceExample(f"p{i}_9", "test", None) for i in range(3)]
    carved = listing_of([f"p{i}_{j}" for i in range(30) for j in range(2)])
    listing = SourceListing(
        (*carved.examples, *test), (), MaskRules(None), ("any",), "folders", ("train", "validation")
    )
    options = RegroupOptions((BY_PATIENT,), "", 0.3)
    again = regroup.regroup(listing, options)
    facts = again.facts
    splits = splits_of(again)
    assert all(splits[example.name] == "test" for example in test)
    assert all(splits[f"p{i}_0"] == splits[f"p{i}_1"] != "test" for i in range(30))
    (line,) = regroup.warnings(facts)
    assert line.endswith("3 (in test)")
    assert again.split_by.startswith("folders, validation by a hash of each group")


def test_splits_that_no_hash_chose_cannot_be_chosen_again():
    listing = listing_of(PATIENTS, hashed=())
    for options in (RegroupOptions((BY_PATIENT,)), RegroupOptions(stratify="presence")):
        with pytest.raises(UserError, match="chooses splits, but these are given by"):
            regroup.regroup(listing, options)
    assert regroup.regroup(listing, RegroupOptions()) is listing
    with pytest.raises(UserError, match="all images are of one class"):
        regroup.regroup(listing_of(PATIENTS), RegroupOptions(stratify="class"))


def draw(folder, count):
    """Pictures of which each third looks alike, and masks of which each fifth has a class 1."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for index in range(count):
        cells = np.random.default_rng(index // 3).integers(0, 256, (5, 6, 3), np.uint8)
        picture = Image.fromarray(cells).resize((60, 50), Image.Resampling.BICUBIC)
        picture.save(folder / "images" / f"x{index}.jpg", quality=60 + index % 3 * 15)
        labels = np.zeros((50, 60), np.uint8)
        labels[: 40 * (index % 5 == 0)] = 1
        Image.fromarray(labels).save(folder / "masks" / f"x{index}.png")


def stored(output, finished):
    """Name -> split, and split -> number of masks with class 1."""
    splits, present = {}, collections.Counter()
    import tensorflow as tf

    for split, of in finished.splits.items():
        for serialized in tf.data.TFRecordDataset(manifest.shard_paths(str(output), of)):
            fields = record.parse_record(serialized)
            splits[fields[record.SOURCE_ID].numpy().decode()] = split
            present[split] += int(record.decode_mask(fields[record.MASK]).numpy().max() == 1)
    return splits, present


def test_look_alikes_stay_together_and_masks_that_disagree_are_named(tmp_path):
    draw(tmp_path / "raw", 30)
    flags = {"source": "folders", "validation_fraction": 0.3, "keep_together": "near_duplicates"}
    finished = convert(tmp_path / "raw", tmp_path / "out", **flags)
    splits, _ = stored(tmp_path / "out", finished)
    assert len(splits) == 30
    for index in range(30):
        assert splits[f"x{index}"] == splits[f"x{index // 3 * 3}"]
    assert finished.source["pairs_of_near_duplicates"] == 30
    (line,) = regroup.warnings(finished.source)
    # Each of the six masks with class 1 disagrees with those of its two copies.
    assert line.count("(20% of the pixels agree)") == 12
    # It is the same when it is resumed, or was finished.
    assert convert(tmp_path / "raw", tmp_path / "out", **flags) == finished


def test_what_masks_show_is_shared_out(tmp_path):
    draw(tmp_path / "raw", 50)
    flags = {"source": "folders", "stratify": "presence", "test_fraction": 0.2}
    finished = convert(tmp_path / "raw", tmp_path / "out", validation_fraction=0.2, **flags)
    splits, present = stored(tmp_path / "out", finished)
    assert collections.Counter(splits.values()) == {"train": 30, "validation": 10, "test": 10}
    assert present == {"train": 6, "validation": 2, "test": 2}
    # Within a stratum the order is that of the hash.
    shown = sorted((f"x{i}" for i in range(0, 50, 5)), key=hash_order)
    assert [splits[name] for name in shown[:4]] == ["validation"] * 2 + ["test"] * 2


def test_pets_of_one_group_stay_together(raw_pets, tmp_path):
    finished = convert(raw_pets, tmp_path / "out", keep_together=(r"_\d",))
    splits, _ = stored(tmp_path / "out", finished)
    given = {"train", "validation"}
    of_group = collections.defaultdict(set)
    for name, split in splits.items():
        of_group[name.rpartition("_")[2][0]].add(split)
    assert all(len(of & given) <= 1 for of in of_group.values())
    assert given <= set(splits.values())
