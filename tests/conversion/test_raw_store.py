"""petseg-convert --store=raw: what is written, and who reads it."""

import collections
import io
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from testing.conversion import convert, convert_raw, encoded, files_of

from petseg.conversion import decoded_pair, dry_run
from petseg.conversion.convert import ConvertOptions
from petseg.data import manifest, raw_picture, record, tfrecord
from petseg.data.picture_file import BadFile
from petseg.data.record import Record
from petseg.errors import UserError
from petseg.verification import contact_sheet, shard_check


def features_of(folder):
    """Split and features of each record, by name."""
    found = {}
    for name, split in manifest.read_manifest(str(folder)).splits.items():
        for serialized in tf.data.TFRecordDataset(manifest.shard_paths(str(folder), split)):
            features = tf.train.Example.FromString(serialized.numpy()).features.feature
            found[features[record.SOURCE_ID].bytes_list.value[0].decode()] = name, features
    return found


def content_of(features, key):
    return features[key].bytes_list.value[0]


def expected_image(split, content):
    """Train's as its windows are decoded, the others' as evaluation decodes them."""
    return tf.io.decode_jpeg(content, channels=3, fancy_upscaling=split != "train").numpy()


def test_every_reader_sees_the_pixels_of_the_encoded_set(data_dir, raw_store_dir):
    """TensorFlow's two decoders, Pillow and TFDS; keys and sizes as in an encoded one."""
    of_raw, of_encoded = features_of(raw_store_dir), features_of(data_dir)
    assert of_raw.keys() == of_encoded.keys()
    seen = {}
    for name, (split, features) in of_raw.items():
        _, before = of_encoded[name]
        image = expected_image(split, content_of(before, record.IMAGE))
        mask = tf.io.decode_png(content_of(before, record.MASK)).numpy()
        seen[name] = image, mask
        for key, pixels in ((record.IMAGE, image), (record.MASK, mask)):
            content = content_of(features, key)
            np.testing.assert_array_equal(tf.io.decode_image(content), pixels)
            np.testing.assert_array_equal(tf.io.decode_png(content), pixels)
            with Image.open(io.BytesIO(content)) as picture:
                np.testing.assert_array_equal(np.asarray(picture), np.squeeze(pixels))
        for key in (record.IMAGE_FORMAT, record.MASK_FORMAT):
            assert content_of(features, key) == b"png"
        assert features.keys() == before.keys()
        for key in features.keys() - {record.IMAGE, record.MASK, record.IMAGE_FORMAT}:
            assert features[key] == before[key]
    for split in ("train", "validation"):
        for example in tfds.builder_from_directory(raw_store_dir).as_dataset(split=split):
            image, mask = seen.pop(example["image"]["source_id"].numpy().decode())
            np.testing.assert_array_equal(example["image"]["encoded"], image)
            np.testing.assert_array_equal(
                example["image"]["segmentation"]["class"]["encoded"], mask
            )
    assert len(seen) == 4


def test_the_manifest_says_the_store_and_what_it_costs(data_dir, raw_store_dir):
    raw, before = (manifest.read_manifest(str(folder)) for folder in (raw_store_dir, data_dir))
    assert (raw.store, before.store) == ("raw", "encoded")
    texts = [(folder / manifest.FILE_NAME).read_text() for folder in (raw_store_dir, data_dir)]
    assert [json.loads(text).get("store") for text in texts] == ["raw", None]
    assert "encoded_bytes" not in texts[1]  # which is as petseg wrote it before
    assert all(
        manifest.to_json(one) == text for one, text in zip((raw, before), texts, strict=True)
    )
    sizes = collections.Counter()
    for split, features in features_of(data_dir).values():
        sizes[split] += sum(len(content_of(features, k)) for k in (record.IMAGE, record.MASK))
    assert {name: split.encoded_bytes for name, split in raw.splits.items()} == sizes
    counted = [
        {name: (split.pixels_per_label, split.mean_height) for name, split in one.splits.items()}
        for one in (raw, before)
    ]
    assert counted[0] == counted[1]


def test_short_sides_are_those_of_the_encoded_set(raw_pets, tmp_path):
    """What is stored are the pixels of the JPEG that would have been."""
    more = {"short_side_px": 64, "jpeg_quality": 80, "shard_mib": 128}
    convert(raw_pets, tmp_path / "encoded", **more)
    convert(raw_pets, tmp_path / "raw", store="raw", **more)
    before = features_of(tmp_path / "encoded")
    for name, (split, features) in features_of(tmp_path / "raw").items():
        image = tf.io.decode_image(content_of(features, record.IMAGE))
        assert min(image.shape[:2]) == 64
        expected = expected_image(split, content_of(before[name][1], record.IMAGE))
        np.testing.assert_array_equal(image, expected)


def test_on_beam_the_files_are_the_same(raw_pets, data_dir, raw_store_dir, tmp_path):
    convert_raw(raw_pets, data_dir, tmp_path / "out", runner="beam")
    assert files_of(tmp_path / "out") == files_of(raw_store_dir)


def test_an_interrupted_conversion_is_resumed_but_not_with_the_other_store(
    raw_pets, data_dir, raw_store_dir, tmp_path, monkeypatch
):
    out, calls, real = tmp_path / "out", [], decoded_pair.decode

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 20 + 14:  # 20 are of the sample
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(decoded_pair, "decode", interrupted)
        convert_raw(raw_pets, data_dir, out)
    assert list(out.glob("*.tfrecord-*")) and not (out / manifest.FILE_NAME).exists()
    other = shutil.copytree(out, tmp_path / "other")
    written = {path: path.stat().st_ino for path in out.glob("*.tfrecord-*")}
    convert_raw(raw_pets, data_dir, out)
    assert {path: path.stat().st_ino for path in written} == written
    assert files_of(out) == files_of(raw_store_dir)
    convert(raw_pets, other)  # nothing of what was written is kept
    assert files_of(other) == files_of(data_dir)
    with pytest.raises(UserError, match="is a finished data set, made from other inputs, with"):
        convert(raw_pets, out)
    assert files_of(out) == files_of(raw_store_dir)


def test_without_space_it_is_refused_before_anything_is_written(raw_pets, tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 20))
    with pytest.raises(UserError, match=r"out: raw, the pictures take about \d MiB, 1 MiB are"):
        convert(raw_pets, tmp_path / "out", store="raw")
    assert not list(tmp_path.rglob("*.tfrecord*"))
    convert(raw_pets, tmp_path / "out")


def test_wrong_commands(raw_pets, tmp_path):
    with pytest.raises(UserError, match="--store=decoded must be encoded or raw"):
        convert(raw_pets, tmp_path / "out", store="decoded")
    with pytest.raises(UserError, match="--store=raw decodes every picture; leave out --validate"):
        convert(raw_pets, tmp_path / "out", store="raw", validate="header")


def test_a_row_that_is_too_long_rejects_its_image():
    wide = encoded(Image.new("RGB", (raw_picture.MOST_COLUMNS + 1, 2)), "JPEG")
    made = Record("x", "x.jpg", wide, b"", 2, raw_picture.MOST_COLUMNS + 1, 0, "")
    with pytest.raises(BadFile, match=r"21,845 px wide, --store=raw stores up to 21,844 px"):
        decoded_pair.decode(made, "train")


def test_a_look_before_estimates_the_size(raw_pets, raw_store_dir, capsys):
    from petseg.cli import dry_run_report

    options = ConvertOptions("", raw_dir=str(raw_pets), store="raw", workers=1)
    found = dry_run.look(options, sample=16, show_progress=False)
    dry_run_report.report(found)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("store")]
    about_mb, times = (float(line.split()[index]) for index in (3, 5))
    splits = manifest.read_manifest(str(raw_store_dir)).splits.values()
    size = sum(split.bytes for split in splits)
    assert about_mb == pytest.approx(size / 1e6, rel=0.3)
    assert times == pytest.approx(size / sum(split.encoded_bytes for split in splits), rel=0.3)


def test_raw_shards_are_a_source_of_records(raw_store_dir, data_dir, tmp_path):
    """From encoded ones to raw ones exactly; from raw ones the images are JPEGs again."""
    for source, store in ((data_dir, "raw"), (raw_store_dir, "encoded")):
        finished = convert(source, tmp_path / store, source="tfrecord", store=store, shard_mib=128)
        assert len(finished.repaired) == (0 if store == "raw" else 32)
    found = features_of(raw_store_dir)
    for name, (split, features) in features_of(tmp_path / "raw").items():
        assert (split, content_of(features, record.IMAGE), content_of(features, record.MASK)) == (
            found[name][0],
            content_of(found[name][1], record.IMAGE),
            content_of(found[name][1], record.MASK),
        )
    for name, (_, features) in features_of(tmp_path / "encoded").items():
        image, mask = (content_of(features, key) for key in (record.IMAGE, record.MASK))
        before = [
            tf.io.decode_image(content_of(found[name][1], key)).numpy().astype(int)
            for key in (record.IMAGE, record.MASK)
        ]
        assert np.abs(tf.io.decode_jpeg(image).numpy().astype(int) - before[0]).mean() < 3
        np.testing.assert_array_equal(tf.io.decode_png(mask), before[1])


def reports(folder):
    finished = manifest.read_manifest(str(folder))
    return [
        shard_check.check_shard(
            shard_check.ShardTask(path, shard, finished.raw_labels, finished.store), lambda: None
        )
        for split in finished.splits.values()
        for path, shard in zip(manifest.shard_paths(str(folder), split), split.shards, strict=True)
    ]


def test_verify_reads_every_pixel(data_dir, raw_store_dir):
    """And gives images nearly the fingerprints that their JPEGs have."""
    prints = []
    for folder in (raw_store_dir, data_dir):
        found = reports(folder)
        assert not any(report.faults for report in found)
        prints.append(np.concatenate([report.prints for report in found]))
    assert len(prints[0]) == 32
    assert np.bitwise_count(prints[0] ^ prints[1]).sum(1).max() <= 5
    sheet = contact_sheet.draw_contact_sheet(
        str(raw_store_dir), manifest.read_manifest(str(raw_store_dir))
    )
    assert sheet.width > 100


def rewritten(folder, change) -> list[str]:
    """Faults of a data set of whose second record something is changed, with its checksum."""
    path = sorted(folder.glob("*train*"))[0]
    with path.open("rb") as file:
        records = [frame.data for frame in tfrecord.read_frames(file)]
    example = tf.train.Example.FromString(records[0])
    change(example.features.feature)
    records[0] = example.SerializeToString(deterministic=True)
    path.write_bytes(b"".join(map(tfrecord.frame, records)))
    return [fault for report in reports(folder) for fault in report.faults]


@pytest.mark.parametrize("kind", ["flipped", "pixel", "compressed", "label", "sides"])
def test_verify_finds_what_is_wrong(raw_store_dir, tmp_path, kind):
    folder = shutil.copytree(raw_store_dir, tmp_path / "data")
    path = sorted(folder.glob("*train*"))[0]
    if kind == "flipped":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        first, *_ = [fault for report in reports(folder) for fault in report.faults]
        assert "its checksum differs" in first
        return

    def change(feature):
        image, mask = feature[record.IMAGE].bytes_list, feature[record.MASK].bytes_list
        if kind == "pixel":
            content = bytearray(image.value[0])
            content[len(content) // 2] ^= 1
            image.value[0] = bytes(content)
        elif kind == "compressed":
            image.value[0] = tf.io.encode_png(tf.io.decode_image(image.value[0])).numpy()
        elif kind == "label":
            labels = np.array(tf.io.decode_png(mask.value[0])[..., 0])
            labels[0, 0] = 9
            mask.value[0] = raw_picture.encode(labels)
        else:
            feature[record.HEIGHT].int64_list.value[0] += 1

    said = {
        "pixel": "its image is not as --store=raw writes it: its bytes are not those of its",
        "compressed": "its image is not as --store=raw writes it: its length does not follow",
        "label": "its mask holds 9, which the manifest does not name",
        "sides": "its record says",
    }
    assert said[kind] in rewritten(folder, change)[0]
