import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from testing.commands import run_module
from testing.conversion import convert, encoded, files_of, write

from petseg.conversion.files import StoredFile
from petseg.conversion.sources.base import (
    FilePair,
    MaskRules,
    SourceExample,
    SourceListing,
    hash_order,
)
from petseg.data import manifest, output_folder, record, shard_hashes
from petseg.data.manifest import Finding
from petseg.errors import FaultFound, UserError


def read_back(data_dir) -> dict[str, tuple[str, dict]]:
    """Every stored example: name -> (split, features), read with TensorFlow alone."""
    found = {}
    for name, split in manifest.read_manifest(str(data_dir)).splits.items():
        for shard, path in zip(
            split.shards, manifest.shard_paths(str(data_dir), split), strict=True
        ):
            serialized = [r.numpy() for r in tf.data.TFRecordDataset(path)]
            assert len(serialized) == shard.records > 0
            for item in serialized:
                features = tf.train.Example.FromString(item).features.feature
                source_id = features[record.SOURCE_ID].bytes_list.value[0].decode()
                assert source_id not in found
                found[source_id] = name, features
    return found


def test_every_pair_is_stored_once_with_the_bytes_of_its_files(raw_pets, data_dir):
    found = read_back(data_dir)
    assert sorted(found) == sorted(p.stem for p in (raw_pets / "images").iterdir())
    for name, (_, features) in found.items():
        image = raw_pets / "images" / f"{name}.jpg"
        mask = raw_pets / "annotations" / "trimaps" / f"{name}.png"
        assert features[record.IMAGE].bytes_list.value[0] == image.read_bytes()
        assert features[record.MASK].bytes_list.value[0] == mask.read_bytes()
        assert features[record.FILENAME].bytes_list.value[0].decode() == image.name
        with Image.open(image) as picture:
            width, height = picture.size
        assert features[record.HEIGHT].int64_list.value[0] == height
        assert features[record.WIDTH].int64_list.value[0] == width


def test_the_manifest_counts_what_the_files_hold(raw_pets, data_dir):
    finished = manifest.read_manifest(str(data_dir))
    assert {name: split.records for name, split in finished.splits.items()} == {
        "train": 20,
        "validation": 8,
        "test": 4,
    }
    found = read_back(data_dir)
    for split_name, split in finished.splits.items():
        names = [name for name, (where, _) in found.items() if where == split_name]
        masks = [Image.open(raw_pets / "annotations" / "trimaps" / f"{n}.png") for n in names]
        labels = np.concatenate([np.asarray(mask).ravel() for mask in masks])
        assert split.pixels_per_label == {v: int((labels == v).sum()) for v in (1, 2, 3)}
        assert split.mean_height == pytest.approx(np.mean([mask.height for mask in masks]))
        assert split.mean_width == pytest.approx(np.mean([mask.width for mask in masks]))
    assert len(finished.splits["train"].shards) > 1
    faults = shard_hashes.check_shards(str(data_dir), finished.splits.values(), hashes=True)
    assert faults == []


def test_tfds_reads_back_the_source_files_byte_for_byte(raw_pets, data_dir):
    assert_tfds_reads_the_source(raw_pets, data_dir)


@pytest.mark.real_data
def test_tfds_reads_back_real_pets_byte_for_byte(real_data, tmp_path):
    convert(real_data / "oxford_pets", tmp_path / "out", shard_mib=8)
    assert_tfds_reads_the_source(real_data / "oxford_pets", tmp_path / "out")


def assert_tfds_reads_the_source(raw, data_dir):
    builder = tfds.builder_from_directory(data_dir)
    decoders = {
        "image": {
            "encoded": tfds.decode.SkipDecoding(),
            "segmentation": {"class": {"encoded": tfds.decode.SkipDecoding()}},
        }
    }
    finished = manifest.read_manifest(str(data_dir))
    assert sorted(builder.info.splits) == sorted(finished.splits)
    for name, split in finished.splits.items():
        assert builder.info.splits[name].num_examples == split.records
        count = 0
        for example in builder.as_dataset(split=name, decoders=decoders).as_numpy_iterator():
            image = example["image"]
            stem = image["source_id"].decode()
            mask = raw / "annotations" / "trimaps" / f"{stem}.png"
            assert image["encoded"] == (raw / "images" / f"{stem}.jpg").read_bytes()
            assert image["segmentation"]["class"]["encoded"] == mask.read_bytes()
            breed = builder.info.features["image"]["class"]["label"].int2str(
                image["class"]["label"]
            )
            assert breed == image["class"]["text"].decode() == stem.rpartition("_")[0]
            count += 1
        assert count == split.records


def test_tfds_decodes_pictures_and_masks(data_dir):
    builder = tfds.builder_from_directory(data_dir)
    for example in builder.as_dataset(split="validation").as_numpy_iterator():
        image = example["image"]
        mask = image["segmentation"]["class"]["encoded"]
        assert image["encoded"].shape == (image["height"], image["width"], 3)
        assert mask.shape == (image["height"], image["width"], 1)
        assert set(np.unique(mask)) <= {1, 2, 3}


def test_the_same_input_gives_the_same_bytes(pets, data_dir, tmp_path):
    # In another folder, with the lists' lines and the files' times in another order.
    for name in ("trainval", "test"):
        path = pets / "annotations" / f"{name}.txt"
        path.write_text("\n".join(reversed(path.read_text().splitlines())))
    for path in (pets / "images").iterdir():
        path.touch()
    convert(pets, tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(data_dir)


def test_bad_inputs_are_left_out_and_named(pets, data_dir, tmp_path):
    images, trimaps = pets / "images", pets / "annotations" / "trimaps"
    good = read_back(data_dir)
    (images / "Slate_1.jpg").write_bytes((images / "Slate_1.jpg").read_bytes()[:500])
    (trimaps / "Slate_2.png").write_bytes(b"")
    Image.new("L", (30, 20), 1).save(trimaps / "Slate_3.png")
    (images / "Slate_4.jpg").unlink()
    (images / "Slate_4.jpg").mkdir()
    Image.open(images / "Slate_5.jpg").save(images / "Slate_5.jpg", "PNG")
    (images / "Slate_6.jpg").unlink()
    (images / "Slate_6.jpg").symlink_to("Slate_6.jpg")
    finished = convert(pets, tmp_path / "out")
    rejected = {finding.name: finding.reason for finding in finished.rejected}
    assert rejected.keys() == {f"Slate_{i}" for i in (1, 2, 3, 4, 6)}
    assert rejected["Slate_1"].startswith("image is a damaged JPEG: ")
    assert rejected["Slate_2"] == "mask is empty (0 bytes)"
    assert rejected["Slate_3"].startswith("mask is 30x20 px, its image ")
    assert rejected["Slate_4"].startswith("image cannot be read")
    assert rejected["Slate_6"].startswith("image cannot be read")
    assert [f.name for f in finished.repaired] == ["Slate_5"]
    stored = read_back(tmp_path / "out")
    assert stored.keys() == good.keys() - rejected.keys()
    assert all(stored[name][0] == good[name][0] for name in stored)


def test_shards_whose_examples_are_all_bad_leave_no_gap(pets, tmp_path):
    bad = sorted((pets / "images").iterdir())[:20]
    for path in bad:
        path.write_bytes(b"\xff\xd8\xff")
    finished = convert(pets, tmp_path / "out", shard_mib=0.001)
    assert len(finished.rejected) == 20
    assert read_back(tmp_path / "out").keys() == {
        p.stem for p in (pets / "images").iterdir() if p not in bad
    }
    shards = sorted(p.name for p in (tmp_path / "out").glob("*.tfrecord-*"))
    expected = [shard.name for split in finished.splits.values() for shard in split.shards]
    assert shards == sorted(expected)


def test_a_split_without_a_good_example_is_left_out(pets, tmp_path):
    for line in (pets / "annotations" / "test.txt").read_text().splitlines():
        (pets / "images" / f"{line.split()[0]}.jpg").write_bytes(b"")
    finished = convert(pets, tmp_path / "out")
    assert sorted(finished.splits) == ["train", "validation"]
    assert len(finished.rejected) == 4


def test_nothing_good_at_all_makes_no_data_set(pets, tmp_path):
    for path in (pets / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="not one of 32 images"):
        convert(pets, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_fail_on_bad_stops_and_leaves_no_manifest(pets, tmp_path):
    (pets / "images" / "notes.txt").write_text("no bad input, but none")
    (pets / "annotations" / "trimaps" / "Slate_2.png").write_bytes(b"")
    with pytest.raises(FaultFound, match="Slate_2: mask is empty"):
        convert(pets, tmp_path / "out", on_bad="fail")
    assert not (tmp_path / "out" / "manifest.json").exists()
    (pets / "annotations" / "trimaps" / "Slate_2.png").unlink()
    with pytest.raises(FaultFound, match="Slate_2: trimap missing"):
        convert(pets, tmp_path / "other", on_bad="fail")


def test_a_folder_that_holds_something_else_is_refused_untouched(raw_pets, tmp_path):
    (tmp_path / "thesis.tex").write_text("my thesis")
    with pytest.raises(UserError, match=r"not empty \(thesis\.tex"):
        convert(raw_pets, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_finished_data_set_of_the_same_inputs_is_left_as_it_is(raw_pets, tmp_path):
    finished = convert(raw_pets, tmp_path / "out")
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    assert convert(raw_pets, tmp_path / "out") == finished
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("change", ["flag", "name", "file", "fewer files"])
def test_a_finished_data_set_of_other_inputs_is_refused_untouched(pets, tmp_path, change):
    convert(pets, tmp_path / "out")
    before = files_of(tmp_path / "out")
    other = {}
    if change == "flag":
        other = {"shard_mib": 0.1}
    elif change == "name":
        other = {"name": "cats"}
    elif change == "file":  # of the same size
        path = pets / "annotations" / "trimaps" / "Slate_1.png"
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    else:
        (pets / "images" / "Slate_1.jpg").unlink()
    with pytest.raises(UserError, match="finished data set, made from other inputs"):
        convert(pets, tmp_path / "out", **other)
    assert files_of(tmp_path / "out") == before


@pytest.mark.parametrize("damage", ["gone", "emptied", "bit"])
def test_a_lost_shard_of_a_finished_data_set_is_written_again(raw_pets, data_dir, tmp_path, damage):
    out = tmp_path / "out"
    convert(raw_pets, out)
    path = sorted(out.glob("*train*"))[1]
    kept = {p: p.stat().st_ino for p in out.iterdir() if p != path}
    if damage == "gone":
        path.unlink()
    elif damage == "emptied":
        path.write_bytes(b"")
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    convert(raw_pets, out)
    assert files_of(out) == files_of(data_dir)
    assert {p: p.stat().st_ino for p in kept} == kept


class Interrupted(Exception):
    pass


def interrupt(raw, out, monkeypatch, **changes) -> None:
    """Converts until a random example."""
    stop_after = int(np.random.default_rng().integers(1, 32))
    print("stopped after", stop_after)
    real, calls = record.encode_record, []

    def interrupted(item):
        calls.append(item)
        if len(calls) == stop_after:
            raise Interrupted
        return real(item)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(record, "encode_record", interrupted)
        convert(raw, out, **changes)
    with pytest.raises(UserError, match=r"not a finished data set|no such data set"):
        manifest.read_manifest(str(out))


def test_an_interrupted_conversion_is_no_data_set_and_is_resumed(
    raw_pets, data_dir, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    interrupt(raw_pets, out, monkeypatch)
    written = {p.name: p.stat().st_ino for p in out.glob("*.tfrecord-*")}
    convert(raw_pets, out)
    assert files_of(out) == files_of(data_dir)
    # What was whole was kept, not written again.
    assert {name: (out / name).stat().st_ino for name in written} == written


def test_resuming_after_a_change_keeps_no_stale_shard(pets, tmp_path, monkeypatch):
    out = tmp_path / "out"
    interrupt(pets, out, monkeypatch, shard_mib=0.03)
    path = pets / "annotations" / "trimaps" / "Slate_1.png"
    mask = np.asarray(Image.open(path)).copy()
    mask[:5] = 3
    Image.fromarray(mask).save(path)
    convert(pets, out)
    convert(pets, tmp_path / "fresh")
    assert files_of(out) == files_of(tmp_path / "fresh")


def test_a_second_conversion_at_the_same_time_is_refused(raw_pets, tmp_path, monkeypatch):
    monkeypatch.setattr(output_folder, "_LOCK_WAIT_S", 0.2)
    out = str(tmp_path / "out")
    with (
        output_folder.claim(out),
        pytest.raises(UserError, match="another command writes to"),
        output_folder.claim(out),
    ):
        pass
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_records_say_what_tf_model_garden_reads(data_dir):
    """Field by field: the keys and types of Model Garden's segmentation decoder."""
    contract = {
        "image/encoded": tf.io.FixedLenFeature((), tf.string),
        "image/height": tf.io.FixedLenFeature((), tf.int64),
        "image/width": tf.io.FixedLenFeature((), tf.int64),
        "image/segmentation/class/encoded": tf.io.FixedLenFeature((), tf.string),
        # DeepLab2 reads these as well.
        "image/filename": tf.io.FixedLenFeature((), tf.string),
        "image/format": tf.io.FixedLenFeature((), tf.string),
        "image/segmentation/class/format": tf.io.FixedLenFeature((), tf.string),
    }
    count = 0
    for path in sorted(data_dir.glob("*.tfrecord-*")):
        for serialized in tf.data.TFRecordDataset(str(path)):
            fields = tf.io.parse_single_example(serialized, contract)
            size = (int(fields["image/height"]), int(fields["image/width"]))
            image = tf.io.decode_image(fields["image/encoded"], channels=3)
            mask = tf.io.decode_image(fields["image/segmentation/class/encoded"], channels=1)
            assert image.dtype == mask.dtype == tf.uint8
            assert image.shape == (*size, 3)
            assert mask.shape == (*size, 1)
            assert fields["image/format"] == b"jpeg"
            assert fields["image/segmentation/class/format"] == b"png"
            assert fields["image/encoded"].numpy()[:3] == b"\xff\xd8\xff"
            assert fields["image/segmentation/class/encoded"].numpy()[24:26] == bytes([8, 0])
            count += 1
    assert count == 32


def test_smaller_pictures_keep_image_and_mask_together(raw_pets, tmp_path):
    finished = convert(raw_pets, tmp_path / "out", short_side_px=64, jpeg_quality=90)
    assert finished.repaired == ()
    for name, (_, features) in read_back(tmp_path / "out").items():
        image = tf.io.decode_jpeg(features[record.IMAGE].bytes_list.value[0]).numpy()
        mask = tf.io.decode_png(features[record.MASK].bytes_list.value[0]).numpy()[..., 0]
        source = Image.open(raw_pets / "images" / f"{name}.jpg")
        assert min(image.shape[:2]) == 64
        assert image.shape[:2] == mask.shape
        assert image.shape[0] / image.shape[1] == pytest.approx(
            source.height / source.width, rel=0.02
        )
        assert features[record.HEIGHT].int64_list.value[0] == image.shape[0]
        # Sampled at pixel centres, as nearest neighbour is defined.
        raw_mask = np.asarray(Image.open(raw_pets / "annotations" / "trimaps" / f"{name}.png"))
        rows, columns = (
            np.floor((np.arange(n) + 0.5) * full / n).astype(int)
            for n, full in zip(mask.shape, raw_mask.shape, strict=True)
        )
        assert (mask == raw_mask[np.ix_(rows, columns)]).mean() > 0.99  # but for ties
        small = source.convert("RGB").resize(image.shape[1::-1], Image.Resampling.BOX)
        assert np.abs(image.astype(int) - np.asarray(small)).mean() < 12


def test_pictures_that_are_small_enough_keep_their_bytes(raw_pets, data_dir, tmp_path):
    convert(raw_pets, tmp_path / "out", short_side_px=5000)
    for name, content in files_of(data_dir).items():
        if "tfrecord" in name:
            assert files_of(tmp_path / "out")[name] == content


def test_reading_only_headers_stores_the_same_bytes_without_counts(raw_pets, data_dir, tmp_path):
    finished = convert(raw_pets, tmp_path / "out", validate="header")
    for name, content in files_of(data_dir).items():
        if "tfrecord" in name:
            assert files_of(tmp_path / "out")[name] == content
    assert finished.splits["train"].pixels_per_label == {}


def test_the_command_converts_and_reports(raw_pets, tmp_path):
    (shutil.copytree(raw_pets, tmp_path / "raw") / "images" / "Slate_1.jpg").unlink()
    done = run_module(
        *("-m", "petseg.cli.convert", f"--raw_dir={tmp_path / 'raw'}"),
        f"--output_dir={tmp_path / 'out'}",
    )
    assert done.returncode == 0, done.stderr
    assert "image missing: Slate_1" in done.stdout
    content = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert content["source"]["validation_fraction"] == 0.1
    assert [f.name for f in manifest.read_manifest(str(tmp_path / "out")).rejected] == ["Slate_1"]


@pytest.mark.real_data
def test_every_file_of_the_partial_real_pets_is_accounted_for(real_data, tmp_path):
    finished = convert(
        real_data / "oxford_pets", tmp_path / "out", shard_mib=8, validation_fraction=0.1
    )
    assert sum(split.records for split in finished.splits.values()) == 356
    assert "test" not in finished.splits
    reasons: dict[str, int] = {}
    for finding in finished.rejected:
        reasons[finding.reason] = reasons.get(finding.reason, 0) + 1
    assert reasons == {
        "image and trimap missing": 3680 + 3669 - 356,
        "in no official list": 3,
        "in no official list (and really of format GIF)": 1,
    }
    assert finished.repaired == ()


@pytest.mark.real_data
def test_the_gif_named_jpg_is_repaired_once_it_is_listed(real_data, tmp_path):
    raw = tmp_path / "raw"
    for folder in ("images", "annotations/trimaps"):
        (raw / folder).mkdir(parents=True)
    for name in ("Abyssinian_1", "Abyssinian_34"):
        for path in (f"images/{name}.jpg", f"annotations/trimaps/{name}.png"):
            shutil.copy(real_data / "oxford_pets" / path, raw / path)
    (raw / "annotations" / "trainval.txt").write_text("Abyssinian_1 1 1 1\nAbyssinian_34 1 1 1\n")
    finished = convert(raw, tmp_path / "out", validation_fraction=0.0)
    (repaired,) = finished.repaired
    assert dataclasses.astuple(repaired)[:2] == ("Abyssinian_34", "train")
    assert repaired.reason.startswith("image: GIF, mode P")
    stored = read_back(tmp_path / "out")["Abyssinian_34"][1][record.IMAGE].bytes_list.value[0]
    with Image.open(real_data / "oxford_pets" / "images" / "Abyssinian_34.jpg") as gif:
        original = np.asarray(gif.convert("RGB")).astype(int)
    assert np.abs(tf.io.decode_jpeg(stored).numpy() - original).mean() < 3


def fixed_pairs(folder, sizes, bad) -> SourceListing:
    """Examples of drawn sizes in bytes, of which some are bad, in the order of their hashes."""
    folder.mkdir()
    names = sorted((f"n{i}" for i in range(len(sizes))), key=hash_order)
    examples = []
    for index, (name, size) in enumerate(zip(names, sizes, strict=True)):
        (folder / f"{name}.jpg").write_bytes(b"" if index in bad else IMAGE)
        (folder / f"{name}.png").write_bytes(MASK)
        image = StoredFile(str(folder / f"{name}.jpg"), size * 10_000)
        pair = FilePair(image, StoredFile(str(folder / f"{name}.png"), 0))
        examples.append(SourceExample(name, "train", pair))
    # A finding that belongs to no shard, and has the name of a good example.
    unplaced = (Finding(names[-1], "", "shape left out"),)
    return SourceListing(tuple(examples), unplaced, MaskRules(None), ("x",), "")


IMAGE = encoded(Image.new("RGB", (8, 8)), "JPEG")
MASK = encoded(Image.new("L", (8, 8), 1), "PNG")


def test_a_split_that_was_planned_again_is_recognized_and_restored(tmp_path):
    seed = int(np.random.default_rng().integers(1 << 30))
    print("seed", seed)
    rng = np.random.default_rng(seed)
    drawn = [rng.choice([1, 2, 3, 20], size=12).tolist() for _ in range(6)]
    # Planned again without its first input this one has as many shards as before.
    for number, sizes in enumerate([[3, 20, 20, 1, 2, 20, 3, 20, 1, 3, 20], *drawn]):
        folder = tmp_path / str(number)
        listing = fixed_pairs(folder, sizes, bad={0, int(rng.integers(len(sizes)))})
        out = folder / "out"
        finished = write(lambda listing=listing: listing, out)
        before = files_of(out)
        assert write(lambda listing=listing: listing, out) == finished
        (out / finished.splits["train"].shards[-1].name).unlink()
        assert write(lambda listing=listing: listing, out) == finished
        assert files_of(out) == before
