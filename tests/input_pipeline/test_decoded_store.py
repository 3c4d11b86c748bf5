import dataclasses
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from petseg import free_memory
from petseg.augmentation import Augmentation
from petseg.data import manifest, record, tfrecord
from petseg.data.label_map import choose_label_map
from petseg.data.manifest import Split
from petseg.errors import FaultFound, UserError
from petseg.input_pipeline import (
    decoded_pictures,
    decoded_store,
    pipeline,
    reading,
    resizing,
    verified_shards,
    windows,
)
from petseg.input_pipeline.pipeline import InputOptions
from petseg.training.data import open_data_set


@pytest.fixture
def data_set(data_dir):
    data = manifest.read_manifest(str(data_dir))
    split = data.splits["train"]
    return reading.shards_in(str(data_dir), split), split, choose_label_map("three_class", data)


def open_store(data_set, cache, short_side=0):
    shards, split, _ = data_set
    return decoded_store.open_store(shards, split, "digest", str(cache), short_side)


def batches_of(dataset, count):
    return [{k: v.numpy() for k, v in batch.items()} for batch in dataset.take(count)]


def assert_same(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for key, values in one.items():
            np.testing.assert_array_equal(values, other[key], key)


def pipelines(data_set, augmentation, keep_aspect, **more):
    """Batches of the JPEGs, and of a store in memory."""
    options = InputOptions(
        data_set[2].class_ids(),
        (96, 128),
        batch_size=4,
        keep_aspect=keep_aspect,
        shuffle_records=7,
        augmentation=augmentation,
        seed=3,
    )
    store = open_store(data_set, "memory")
    encoded = pipeline.make_for_train(data_set[0], options, **more)
    more["pictures"] = store.pictures
    return encoded, pipeline.make_for_train(store.entries, options, **more)


@pytest.mark.parametrize(
    ("augmentation", "keep_aspect"),
    [
        (Augmentation(min_crop_area=0.25, brightness=0.2), False),
        (Augmentation(min_crop_area=0.5), True),
        (Augmentation(flip=False, min_crop_area=1.0), True),
    ],
)
def test_batches_are_those_of_the_jpegs(data_set, augmentation, keep_aspect):
    """For windows of less than twice the size."""
    encoded, decoded = pipelines(data_set, augmentation, keep_aspect)
    assert_same(batches_of(decoded, 8), batches_of(encoded, 8))


def test_a_resumed_worker_gets_its_share_of_the_same_batches(data_set):
    more = {"start_step": 5, "worker": 1, "num_workers": 2}
    encoded, decoded = pipelines(data_set, Augmentation(min_crop_area=0.25), False, **more)
    assert_same(batches_of(decoded, 3), batches_of(encoded, 3))


def test_a_reduced_window_holds_means(data_set):
    rng = np.random.default_rng()
    image = rng.integers(0, 256, (51, 83, 3), dtype=np.uint8)
    mask = rng.integers(0, 9, (51, 83), dtype=np.uint8)
    content = decoded_pictures.lay_out(tf.constant(image), tf.constant(mask)).numpy()
    assert content.size == decoded_pictures.example_bytes(np.int64(51), np.int64(83))
    pixels = np.concatenate([np.full(640, 255, np.uint8), content])
    pictures = decoded_pictures.DecodedPictures(tf.constant(pixels))
    entry = decoded_pictures.encode_entry(b"x", 51, 83, 640, 0)
    example = {key: value[0] for key, value in pictures.parse(tf.constant([entry])).items()}
    rows, columns = rng.integers(0, 51, 20), rng.integers(0, 83, 30)
    picked = pictures.mask(example, tf.constant(rows), tf.constant(columns))
    np.testing.assert_array_equal(picked, mask[rows][:, columns])
    for index, factor in enumerate(windows.REDUCTIONS):
        window = np.array([8, 16, 40 // factor * factor, 64], np.int32)
        got = pictures.image_window(example, tf.constant(window), tf.constant(index)).numpy()
        part = image[8 : 8 + window[2], 16:80].astype(np.float64)
        means = part.reshape(window[2] // factor, factor, 64 // factor, factor, 3).mean((1, 3))
        assert np.abs(got - means).max() <= 0.5
        assert factor > 1 or (got == part).all()


def examples_of(store):
    """Name, image and mask of each, whole, in the order of the shards."""
    for entry in tf.data.TFRecordDataset(store.entries.paths):
        fields = store.pictures.parse(entry[None])
        example = {key: value[0] for key, value in fields.items()}
        sides = [int(example[key]) for key in (record.HEIGHT, record.WIDTH)]
        image = store.pictures.image_window(example, tf.constant([0, 0, *sides]), tf.constant(0))
        mask = store.pictures.mask(example, *map(tf.range, sides))
        yield example[record.SOURCE_ID].numpy(), image.numpy(), mask.numpy()


def test_long_sides_are_shortened(data_set, tmp_path):
    """On a disk, to the side that is asked for; what is smaller stays as it is."""
    stored = list(examples_of(open_store(data_set, tmp_path, short_side=100)))
    originals = list(tf.data.TFRecordDataset(data_set[0].paths))
    assert len(stored) == len(originals) == 20
    shortened = 0
    for (name, image, mask), original in zip(stored, originals, strict=True):
        fields = record.parse_record(original)
        full = tf.io.decode_jpeg(fields[record.IMAGE], fancy_upscaling=False)
        full_mask = record.decode_mask(fields[record.MASK])[..., 0]
        height, width = full.shape[:2]
        assert name == fields[record.SOURCE_ID]
        if min(height, width) > 100:
            shortened += 1
            factor = 100 / min(height, width)
            sides = [int(np.floor(side * factor + 0.5)) for side in (height, width)]
            assert min(sides) == 100
            full = np.round(tf.image.resize(full, sides, antialias=True)).astype(np.uint8)
            rows, columns = (
                resizing.nearest(0, side, new)
                for side, new in zip((height, width), sides, strict=True)
            )
            full_mask = full_mask.numpy()[np.ix_(rows, columns)]
        np.testing.assert_array_equal(image, full)
        np.testing.assert_array_equal(mask, full_mask)
    assert shortened > 5


def assert_same_examples(some, others):
    for one, other in zip(some, others, strict=True):
        assert one[0] == other[0]
        np.testing.assert_array_equal(one[1], other[1])
        np.testing.assert_array_equal(one[2], other[2])


@pytest.mark.slow
def test_stores_of_one_process_are_independent(data_set):
    """Also where the same one is opened again, and where others take as many bytes."""
    shards, split, label_map = data_set
    turned = reading.Shards(shards.paths[::-1], shards.records[::-1])
    other = turned, Split(split.shards[::-1]), label_map
    first, *stores = [open_store(which, "memory") for which in (data_set, other, data_set, other)]
    examples = {example[0]: example for example in examples_of(first)}
    assert len(examples) == 20 and all(image.any() for _, image, _ in examples.values())
    for store in stores:
        got = list(examples_of(store))
        assert_same_examples(got, [examples[name] for name, _, _ in got])


def test_lost_pixels_are_decoded_again(data_set, tmp_path):
    whole = list(examples_of(open_store(data_set, tmp_path)))
    (pixels,) = tmp_path.glob("*/pixels")
    pixels.unlink()
    assert_same_examples(list(examples_of(open_store(data_set, tmp_path))), whole)


def test_an_interrupted_store_is_continued(data_set, tmp_path):
    whole = list(examples_of(open_store(data_set, tmp_path / "whole")))
    folder = tmp_path / "cut"
    open_store(data_set, folder)
    (inner,) = folder.iterdir()
    shards = sorted(inner.glob("*train*"))
    seed = int(np.random.default_rng().integers(1 << 30))
    print("seed", seed)
    lost = np.random.default_rng(seed).choice(len(shards), 3, replace=False)
    for index in lost:
        shards[index].unlink()
    kept = {path: path.stat().st_mtime_ns for path in shards if path.exists()}
    continued = list(examples_of(open_store(data_set, folder)))
    assert [path.stat().st_mtime_ns for path in kept] == list(kept.values())
    assert_same_examples(continued, whole)


@pytest.mark.parametrize("fault", ["flipped", "cut"])
def test_damaged_pixels_never_reach_a_batch(data_set, tmp_path, fault):
    open_store(data_set, tmp_path)
    (pixels,) = tmp_path.glob("*/pixels")
    if fault == "cut":
        os.truncate(pixels, pixels.stat().st_size // 2)
    else:
        content = bytearray(pixels.read_bytes())
        content[len(content) // 2] ^= 1
        pixels.write_bytes(content)
    store = open_store(data_set, tmp_path)
    options = InputOptions(data_set[2].class_ids(), 32, batch_size=4)
    batches = pipeline.make_for_train(store.entries, options, epochs=1, pictures=store.pictures)
    with (
        pytest.raises(FaultFound, match=r"config\.data\.cache: pixels of .* are damaged; delete"),
        verified_shards.faults_in_one_line(),
    ):
        list(batches)


def test_a_store_of_other_shards_is_another_one(data_set, tmp_path):
    open_store(data_set, tmp_path)
    shards, split, label_map = data_set
    fewer = dataclasses.replace(split, shards=split.shards[:3])
    open_store((shards, split, label_map), tmp_path, short_side=50)
    first = reading.Shards(shards.paths[:3], shards.records[:3])
    stored = list(examples_of(open_store((first, fewer, label_map), tmp_path)))
    assert len(list(tmp_path.iterdir())) == 3
    assert len(stored) == sum(shards.records[:3])


def test_without_space_it_is_refused_before_anything_is_decoded(data_set, monkeypatch):
    monkeypatch.setattr(free_memory, "available_bytes", lambda: 1 << 20)
    with pytest.raises(UserError, match=r"memory: decoded, the training images take \d+ MiB, 0"):
        open_store(data_set, "memory")


def test_a_damaged_shard_is_a_fault(data_dir, data_set, tmp_path):
    _, split, label_map = data_set
    folder = shutil.copytree(data_dir, tmp_path / "data")
    path = folder / split.shards[1].name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    verified = verified_shards.VerifiedShards(
        str(folder), [split], "config.data.dir", "do it again"
    )
    damaged = reading.shards_in(str(folder), split, verified)
    with pytest.raises(FaultFound, match=rf"^config\.data\.dir: {path} differs .*; do it again$"):
        open_store((damaged, split, label_map), "memory")


def test_a_folder_that_cannot_be_written_is_refused(data_set, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^config\.data\.cache=.*file: .*"):
        open_store(data_set, tmp_path / "file")


@pytest.mark.parametrize("key", [record.HEIGHT, record.WIDTH])
def test_a_record_with_another_size_is_a_fault(data_set, tmp_path, key):
    shards, split, label_map = data_set
    frames = list(tf.data.TFRecordDataset(shards.paths[0]).as_numpy_iterator())
    example = tf.train.Example.FromString(frames[-1])
    example.features.feature[key].int64_list.value[0] += 1
    frames[-1] = example.SerializeToString()
    path = tmp_path / split.shards[0].name
    path.write_bytes(b"".join(map(tfrecord.frame, frames)))
    wrong = reading.Shards((str(path), *shards.paths[1:]), shards.records)
    with pytest.raises(FaultFound, match=rf"^{path}: .* not of the size that its record gives; "):
        open_store((wrong, split, label_map), tmp_path / "store")


def test_a_damaged_store_is_found_before_python_gets_batches(tiny_config, tmp_path):
    tiny_config.data.cache, tiny_config.data.cache_decoded = str(tmp_path), True
    data = open_data_set(tiny_config)
    data.verify()
    (pixels,) = tmp_path.glob("*/pixels")
    content = bytearray(pixels.read_bytes())
    content[-1] ^= 1
    pixels.write_bytes(content)
    with pytest.raises(FaultFound, match=r"pixels of .* are damaged"):
        open_data_set(tiny_config).verify()
