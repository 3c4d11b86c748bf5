"""The source tfrecord: records without TFDS's files."""

import io

import pytest
import tensorflow as tf
from PIL import Image
from testing.annotations import boxes, masks_of, reasons
from testing.conversion import convert, encoded, write

from petseg.conversion.sources import tfrecord_files as source
from petseg.conversion.sources.base import MaskRules, SourceOptions
from petseg.errors import FaultFound, UserError

MASK = boxes((1, 5, 5, 20, 15), (255, 30, 10, 50, 30))
KEYS = ("image/encoded", "image/segmentation/class/encoded")


def listed(place, **changes):
    return source.list_tfrecord(SourceOptions(raw_dir=str(place), **changes))


def serialized(name, image_kind="JPEG", keys=KEYS):
    """One example as DeepLab's build scripts write it."""
    image = encoded(Image.new("RGB", (60, 40), (90, 120, 30)), image_kind)
    values = {
        **{keys[0]: image, "image/filename": name.encode(), "image/format": b"jpeg"},
        **{keys[1]: encoded(Image.fromarray(MASK), "PNG")},
        **{"image/segmentation/class/format": b"png", "image/height": 40, "image/channels": 3},
    }
    example = tf.train.Example()
    for key, value in values.items():
        kind = "bytes_list" if isinstance(value, bytes) else "int64_list"
        getattr(example.features.feature[key], kind).value.append(value)
    return example.SerializeToString()


def draw(folder, shards, **options):
    folder.mkdir(exist_ok=True)
    for shard, names in shards.items():
        with tf.io.TFRecordWriter(str(folder / shard)) as writer:
            for name in names:
                writer.write(serialized(name, **options))
    return folder


def test_shards_of_deeplab_give_splits_by_their_names(tmp_path):
    shards = {
        "train-00000-of-00002.tfrecord": ["2007_01", "2007_02"],
        "train-00001-of-00002.tfrecord": ["2007_03.jpg"],
        "val-00000-of-00001.tfrecord": ["2008_01"],
    }
    folder = draw(tmp_path / "raw", shards)
    (folder / "readme.md").write_text("x")
    listing = listed(folder, mask_rules=MaskRules(None, ignored=255))
    splits = {e.name: e.split for e in listing.examples}
    assert splits == {
        **dict.fromkeys(["2007_01", "2007_02", "2007_03"], "train"),
        "2008_01": "validation",
    }
    assert all((mask == MASK).all() for mask in masks_of(listing).values())
    finished = write(lambda: listing, tmp_path / "out")
    assert finished.raw_labels == {0: "value_0", 1: "value_1", 255: "ignored"}
    assert listed(f"{folder}/train-*", mask_rules=MaskRules(None)).split_by == (
        "the names of the files, validation by a hash of each name"
    )


def test_names_without_a_split_are_split_by_hash_and_equal_names_kept_apart(tmp_path):
    folder = draw(tmp_path, {"pets.tfrecord": ["a"] * 8})
    listing = listed(folder / "pets.tfrecord", validation_fraction=0.25)
    examples = list(listing.examples)
    assert len({e.name for e in examples}) == 8
    assert {e.split for e in examples} == {"train", "validation"}
    assert listing.split_by == "a hash of each name"


def test_a_renamed_record_replaces_no_other_one(tmp_path):
    names = ["record-0000002-x", "x", "x", "pets.tfrecord/x-0000002", "train-0000001-x"]
    folder = draw(tmp_path, {"pets.tfrecord": names})
    examples = list(listed(folder).examples)
    assert len({e.name for e in examples}) == len({e.pair.stored.offset for e in examples}) == 5
    assert set(names) - {"x"} < {e.name for e in examples}


def test_other_keys_are_named(tmp_path):
    folder = draw(tmp_path, {"train.tfrecord": ["a", "b"]}, keys=("img", "seg"))
    with pytest.raises(UserError, match=r"has image/encoded and image/seg.*; there are .*img"):
        listed(folder)
    found = listed(folder, image_feature="img", mask_feature="seg")
    assert (masks_of(found)["a"] == MASK).all()


def test_a_png_image_is_taken_and_a_record_without_mask_named(tmp_path):
    folder = draw(tmp_path, {"train-00000-of-00001": ["a", "b"]}, image_kind="PNG")
    with tf.io.TFRecordWriter(str(folder / "val-00000-of-00001")) as writer:
        writer.write(tf.train.Example().SerializeToString())
    listing = listed(folder)
    assert reasons(listing) == {
        "val-00000-of-00001, record 0": f"record without {KEYS[0]} and {KEYS[1]}"
    }
    image, _ = next(iter(listing.examples)).pair.read()
    assert Image.open(io.BytesIO(image)).format == "PNG"


def test_damage_is_told_by_its_place(tmp_path):
    folder = draw(tmp_path, {"train.tfrecord": ["a", "b"]})
    path = folder / "train.tfrecord"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + b"\0" + whole[-19:])
    with pytest.raises(FaultFound, match="record 1: its checksum differs"):
        listed(folder)
    path.write_bytes(whole[:-5])
    with pytest.raises(FaultFound, match="record 1: the file ends within it"):
        listed(folder)
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        writer.write(serialized("a"))
    with pytest.raises(FaultFound, match="record 0: it is compressed"):
        listed(folder)
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"no example")
    with pytest.raises(FaultFound, match="record 0: "):
        listed(folder)


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no TFRecord file"):
        listed(tmp_path)
    with pytest.raises(UserError, match="No such file"):
        listed(tmp_path / "no.tfrecord")


def test_masks_of_one_class_are_read_as_the_flag_says(tmp_path):
    folder = draw(tmp_path / "raw", {"train.tfrecord": ["a"], "val.tfrecord": ["b"]})
    finished = convert(folder, tmp_path / "out", source="tfrecord", threshold=128)
    assert finished.raw_labels == {0: "background", 1: "foreground"}
    assert finished.splits["train"].pixels_per_label == {0: 2000, 1: 400}
