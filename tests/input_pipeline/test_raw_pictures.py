"""Batches of --store=raw, against those of the JPEGs and of stores of decoded pictures."""

import numpy as np
import pytest
import tensorflow as tf

from petseg.augmentation import Augmentation
from petseg.data import manifest, raw_picture, record
from petseg.data.label_map import choose_label_map
from petseg.devices import Devices
from petseg.feature_cache import views
from petseg.input_pipeline import decoded_store, pictures, pipeline, reading, windows
from petseg.input_pipeline.pipeline import InputOptions
from petseg.input_pipeline.raw_pictures import RawPictures
from petseg.training.data import open_data_set


def batches_of(dataset, count):
    return [{k: v.numpy() for k, v in batch.items()} for batch in dataset.take(count)]


def assert_same(some, others):
    assert len(some) == len(others) > 0
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for key, values in one.items():
            np.testing.assert_array_equal(values, other[key], key)


def options_of(folder, augmentation=None, size=(96, 128), keep_aspect=False):
    label_map = choose_label_map("three_class", manifest.read_manifest(str(folder)))
    return InputOptions(
        label_map.class_ids(),
        size,
        batch_size=4,
        keep_aspect=keep_aspect,
        shuffle_records=7,
        augmentation=augmentation or Augmentation(min_crop_area=0.25),
        seed=3,
    )


def train_batches(folder, options, count=8, **more):
    data = manifest.read_manifest(str(folder))
    shards = reading.shards_in(str(folder), data.splits["train"])
    of_store = pictures.of_store(data.store)
    return batches_of(pipeline.make_for_train(shards, options, pictures=of_store, **more), count)


@pytest.mark.parametrize(
    ("augmentation", "keep_aspect"),
    [
        (Augmentation(min_crop_area=0.25, brightness=0.2), False),
        (Augmentation(min_crop_area=0.5), True),
        (Augmentation(flip=False, min_crop_area=1.0), True),
    ],
)
def test_batches_are_those_of_the_jpegs(data_dir, raw_store_dir, augmentation, keep_aspect):
    """For windows of less than twice the size."""
    options = options_of(data_dir, augmentation, keep_aspect=keep_aspect)
    assert_same(train_batches(raw_store_dir, options), train_batches(data_dir, options))


def test_a_resumed_worker_gets_its_share_of_the_same_batches(data_dir, raw_store_dir):
    more = {"start_step": 7, "worker": 1, "num_workers": 2, "count": 3}
    options = options_of(data_dir)
    assert_same(
        train_batches(raw_store_dir, options, **more), train_batches(data_dir, options, **more)
    )


def test_reduced_windows_are_those_of_decoded_pictures(data_dir, raw_store_dir):
    options = options_of(data_dir, size=32)
    split = manifest.read_manifest(str(data_dir)).splits["train"]
    shards = reading.shards_in(str(data_dir), split)
    store = decoded_store.open_store(shards, split, "of raw", decoded_store.MEMORY)
    decoded = pipeline.make_for_train(store.entries, options, pictures=store.pictures)
    assert_same(train_batches(raw_store_dir, options), batches_of(decoded, 8))


@pytest.mark.parametrize("keep_aspect", [False, True])
def test_evaluation_sees_the_same_images(data_dir, raw_store_dir, keep_aspect):
    options = options_of(data_dir, size=64, keep_aspect=keep_aspect)
    batches = []
    for folder in (data_dir, raw_store_dir):
        split = manifest.read_manifest(str(folder)).splits["validation"]
        paths = manifest.shard_paths(str(folder), split)
        batches.append(batches_of(pipeline.make_for_eval(paths, options, num_workers=2), 9))
    assert_same(*batches)


@pytest.mark.parametrize("more", [{}, {"cache": "memory"}, {"cache_decoded": True}])
def test_a_run_reads_the_store_that_the_manifest_names(tiny_config, raw_store_dir, more):
    """Also from copies, and from a store of decoded pictures."""
    tiny_config.data.image_size = 128  # of which no window is twice as large
    expected = run_batches(tiny_config)
    tiny_config.data.dir, tiny_config.data.cache = str(raw_store_dir), "memory" if more else "none"
    for name, value in more.items():
        setattr(tiny_config.data, name, value)
    assert_same(run_batches(tiny_config), expected)


def run_batches(config):
    data = open_data_set(config)
    data.verify()
    source = data.image_batches(Devices(tf.distribute.get_strategy()))
    return [*batches_of(source.train("all", 2), 4), *batches_of(source.validation("all"), 1)]


def test_fixed_windows_of_feature_caches_are_the_same(data_dir, raw_store_dir):
    options = views.ViewOptions(Augmentation(min_crop_area=0.3), 96, False)
    batches = []
    for folder in (data_dir, raw_store_dir):
        data = manifest.read_manifest(str(folder))
        paths = manifest.shard_paths(str(folder), data.splits["train"])
        wanted = np.arange(20) % 3 == 0
        seen = views.read_view(
            paths, "crop2", wanted, options, 4, pictures=pictures.of_store(data.store)
        )
        batches.append(batches_of(seen, 9))
    assert_same(*batches)


def test_a_window_holds_its_pixels_and_no_others():
    rng = np.random.default_rng()
    image = rng.integers(0, 256, (51, 83, 3), dtype=np.uint8)
    mask = rng.integers(0, 9, (51, 83), dtype=np.uint8)
    example = {
        record.IMAGE: tf.constant(raw_picture.encode(image)),
        record.MASK: tf.constant(raw_picture.encode(mask)),
        record.HEIGHT: tf.constant(51, tf.int64),
        record.WIDTH: tf.constant(83, tf.int64),
    }
    rows, columns = rng.integers(0, 51, 20), rng.integers(0, 83, 30)
    picked = RawPictures().mask(example, tf.constant(rows), tf.constant(columns))
    np.testing.assert_array_equal(picked, mask[rows][:, columns])
    for top, left, height, width in ((0, 0, 51, 83), (50, 82, 1, 1), (8, 16, 40, 64)):
        window = tf.constant([top, left, height, width])
        got = RawPictures().image_window(example, window, tf.constant(0))
        np.testing.assert_array_equal(got, image[top : top + height, left : left + width])
    for index, factor in enumerate(windows.REDUCTIONS):
        got = RawPictures().image_window(example, tf.constant([8, 16, 40, 64]), tf.constant(index))
        part = image[8:48, 16:80].astype(np.float64)
        means = part.reshape(40 // factor, factor, 64 // factor, factor, 3).mean((1, 3))
        assert np.abs(got.numpy() - means).max() <= 0.5


def test_a_record_of_another_size_never_gives_pixels():
    image = np.zeros((5, 8, 3), np.uint8)
    example = {record.IMAGE: tf.constant(raw_picture.encode(image)), record.WIDTH: tf.int64.max}
    for width in (7, 9, 200):
        example[record.WIDTH] = tf.constant(width, tf.int64)
        with pytest.raises(tf.errors.InvalidArgumentError):
            RawPictures().image_window(example, tf.constant([4, 0, 40, 7]), tf.constant(0))
