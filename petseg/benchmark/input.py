"""Measures the training and evaluation input beside their limits and other pipelines."""

import collections
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Sequence

import tensorflow as tf
import tensorflow_datasets as tfds

from petseg.augmentation import Augmentation
from petseg.benchmark import measuring
from petseg.benchmark.measuring import Candidate
from petseg.cores import usable_cores
from petseg.data import manifest, record
from petseg.data.label_map import parse_label_map
from petseg.input_pipeline import decoded_store, pictures, pipeline, reading, resizing, windows
from petseg.input_pipeline.class_ids import to_class_ids
from petseg.input_pipeline.pipeline import InputOptions
from petseg.input_pipeline.reading import Shards

_STAGE = "input"
_SIZE = 224
_BATCH_SIZE = 32
_SHUFFLE_RECORDS = 1024
_LABEL_MAP = "three_class"
_AUGMENTED = 256  # decoded examples that are augmented repeatedly
# The defaults of a random resized crop in torchvision, albumentations and DALI.
_USUAL = Augmentation(flip=True, min_crop_area=0.08, max_crop_aspect=4 / 3)
_LARGER = Augmentation(flip=True, min_crop_area=0.25, max_crop_aspect=4 / 3)


def benchmark(
    data_dir: str,
    smaller_data_dir: str | None,
    make_raw: Callable[[str], str],
    *,
    records: int,
    rounds: int,
    only: Sequence[str],
) -> None:
    """Prints the speed of every candidate, and ratios.

    Args:
      data_dir: a converted data set.
      smaller_data_dir: the same data set, converted with --short_side=256, or None.
      make_raw: converts a data set with --store=raw, and returns the new one's folder.
      records: number of records that each candidate reads a round.
      rounds: how often every candidate runs.
      only: names of candidates; empty for all.
    """
    streams = {
        "read": read,
        "parse": parse,
        "plain_decode_limit": decode_whole,
        "decode": decode_windows,
        "augment": augment,
        "batch": batch_only,
        "train": train,
        "train_area_0.25": functools.partial(train, augmentation=_LARGER),
        "train_unordered": functools.partial(train, shuffle_records=1, deterministic=False),
        "train_decoded": train_decoded,
        "eval": evaluate,
        "eval_kept": functools.partial(evaluate, is_kept=True),
        "tutorial": tutorial,
        "tfds": with_tfds,
        "tfds_uncached": functools.partial(with_tfds, caches=False),
    }
    cores = usable_cores()
    runs = {
        name: functools.partial(_speed, run, data_dir, records) for name, run in streams.items()
    }
    runs["resume_s"] = functools.partial(resume, data_dir)
    if smaller_data_dir:
        runs["plain_decode_smaller"] = functools.partial(
            _speed, decode_whole, smaller_data_dir, records
        )
        for name, run in (("train_smaller", train), ("train_decoded_smaller", train_decoded)):
            runs[name] = functools.partial(_speed, run, smaller_data_dir, records)
    for name, encoded_dir in (("train_raw", data_dir), ("train_raw_smaller", smaller_data_dir)):
        if encoded_dir and (not only or name in only):
            runs[name] = functools.partial(_speed, train, make_raw(encoded_dir), records)
    results = measuring.run_rounds(
        [Candidate(name, run, cores) for name, run in runs.items() if not only or name in only],
        rounds,
        "images/s",
    )
    for (name, _), measured in results.items():
        measuring.print_line(
            _STAGE,
            name,
            [run.speed for run in measured],
            "s" if name == "resume_s" else "images/s",
            workers=cores,
            peak_mib=round(max(run.peak_mib for run in measured)),
            records=records,
        )
    for name, other in (
        ("train", "plain_decode_limit"),
        ("train_area_0.25", "plain_decode_limit"),
        ("train_smaller", "plain_decode_limit"),
        ("train_decoded", "plain_decode_limit"),
        ("train_decoded_smaller", "plain_decode_limit"),
        ("train_raw", "plain_decode_limit"),
        ("train_raw_smaller", "plain_decode_limit"),
        ("train_raw", "train_decoded"),
        ("train_raw_smaller", "train_decoded_smaller"),
        ("decode", "plain_decode_limit"),
        ("eval", "plain_decode_limit"),
        ("eval_kept", "plain_decode_limit"),
        ("tutorial", "plain_decode_limit"),
        ("tfds", "plain_decode_limit"),
        ("tfds_uncached", "plain_decode_limit"),
        ("train", "tutorial"),
        ("train", "tfds_uncached"),
        ("train_decoded", "tfds"),
        ("train", "train_unordered"),
    ):
        measuring.print_ratio(_STAGE, results, name, other, records=records)


def read(data_dir: str) -> tf.data.Dataset:
    """Serialized records in training order."""
    return _serialized(_shards(data_dir)).batch(_BATCH_SIZE)


def parse(data_dir: str) -> tf.data.Dataset:
    """Parsed records, a batch at a time."""
    return read(data_dir).map(record.parse_record, num_parallel_calls=tf.data.AUTOTUNE)


def decode_whole(data_dir: str) -> tf.data.Dataset:
    """Images and masks decoded at full size, unordered: the limit of a plain pipeline."""

    def decode(serialized: tf.Tensor) -> tf.Tensor:
        fields = record.parse_record(serialized)
        mask = record.decode_mask(fields[record.MASK])
        return tf.size(record.decode_image(fields[record.IMAGE])) + tf.size(mask)

    serialized = reading.read(_shards(data_dir).paths, deterministic=False).repeat()
    return serialized.map(decode, tf.data.AUTOTUNE, deterministic=False).batch(_BATCH_SIZE)


def decode_windows(data_dir: str) -> tf.data.Dataset:
    """Windows of images decoded, and whole masks: the least that training must decode."""

    def decode(encoded: tf.Tensor, encoded_mask: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
        image = tf.image.decode_and_crop_jpeg(encoded, window, channels=3, fancy_upscaling=False)
        return tf.size(image) + tf.size(record.decode_mask(encoded_mask))

    dataset = parse(data_dir).map(_with_windows).unbatch()
    return dataset.map(decode, tf.data.AUTOTUNE).batch(_BATCH_SIZE)


def augment(data_dir: str) -> tf.data.Dataset:
    """Decoded windows resized, flipped and mapped to class ids, without decoding."""
    class_ids = parse_label_map(_LABEL_MAP).class_ids()

    def decode(encoded: tf.Tensor, encoded_mask: tf.Tensor, window: tf.Tensor) -> tuple:
        image = tf.image.decode_and_crop_jpeg(encoded, window, channels=3)
        return image, record.decode_mask(encoded_mask)[..., 0], window

    def finish(image: tf.Tensor, mask: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
        image = windows.to_size(image, (_SIZE, _SIZE))
        image = tf.cond(window[0] % 2 == 0, lambda: tf.reverse(image, [1]), lambda: image)
        rows = resizing.nearest(window[0], window[2], _SIZE)
        columns = resizing.nearest(window[1], window[3], _SIZE)
        ids = to_class_ids(resizing.sample(mask, rows, columns), class_ids)
        return tf.cast(image[0, 0, 0] + ids[0, 0], tf.int32)

    decoded = parse(data_dir).map(_with_windows).unbatch().take(_AUGMENTED).map(decode)
    return decoded.cache().repeat().map(finish, tf.data.AUTOTUNE).batch(_BATCH_SIZE)


def batch_only(data_dir: str) -> tf.data.Dataset:
    """One example, repeated and batched."""
    example = next(iter(train(data_dir).unbatch()))
    dataset = tf.data.Dataset.from_tensors(example).cache().repeat()
    return dataset.batch(_BATCH_SIZE, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def train(
    data_dir: str,
    augmentation: Augmentation = _USUAL,
    shuffle_records: int = _SHUFFLE_RECORDS,
    deterministic: bool = True,
    start_step: int = 0,
) -> tf.data.Dataset:
    """petseg's training input."""
    options = dataclasses.replace(
        _train_options(),
        shuffle_records=shuffle_records,
        augmentation=augmentation,
        deterministic=deterministic,
    )
    of_store = pictures.of_store(manifest.read_manifest(data_dir).store)
    return pipeline.make_for_train(
        _shards(data_dir), options, start_step=start_step, pictures=of_store
    )


def train_decoded(data_dir: str) -> tf.data.Dataset:
    """The same from pictures that were decoded once, in memory (data.cache_decoded)."""
    split = manifest.read_manifest(data_dir).split("train", data_dir)
    shards = reading.shards_in(data_dir, split)
    store = decoded_store.open_store(shards, split, "", decoded_store.MEMORY)
    return pipeline.make_for_train(store.entries, _train_options(), pictures=store.pictures)


def _train_options() -> InputOptions:
    return InputOptions(
        class_ids=parse_label_map(_LABEL_MAP).class_ids(),
        image_size=_SIZE,
        batch_size=_BATCH_SIZE,
        shuffle_records=_SHUFFLE_RECORDS,
        augmentation=_USUAL,
    )


def evaluate(data_dir: str, is_kept: bool = False) -> tf.data.Dataset:
    """petseg's evaluation input; `is_kept`: from the second time on (data.cache_decoded)."""
    class_ids = parse_label_map(_LABEL_MAP).class_ids()
    options = InputOptions(class_ids=class_ids, image_size=_SIZE, batch_size=_BATCH_SIZE)
    batches = pipeline.make_for_eval(_shards(data_dir).paths, options, is_kept=is_kept)
    if is_kept:
        collections.deque(batches, maxlen=0)
    return batches.repeat()


def tutorial(data_dir: str) -> tf.data.Dataset:
    """The pipeline of TensorFlow's guides: decode, random box, tf.image.resize, flip, batch."""

    def decode(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        fields = record.parse_record(serialized)
        return (
            tf.io.decode_jpeg(fields[record.IMAGE], channels=3),
            tf.io.decode_png(fields[record.MASK], channels=1),
        )

    paths = tf.data.Dataset.list_files(list(_shards(data_dir).paths), shuffle=True)
    examples = paths.interleave(tf.data.TFRecordDataset, num_parallel_calls=tf.data.AUTOTUNE)
    decoded = examples.repeat().shuffle(_SHUFFLE_RECORDS).map(decode, tf.data.AUTOTUNE)
    return decoded.map(_augment_plainly, tf.data.AUTOTUNE).batch(_BATCH_SIZE).prefetch(2)


def with_tfds(data_dir: str, caches: bool = True) -> tf.data.Dataset:
    """TFDS reading and decoding the same shards, with the tutorial's augmentation.

    By itself it keeps sets of less than 250 MiB decoded in memory; without `caches` it does not.
    """
    split = tfds.builder_from_directory(data_dir).as_dataset(
        split="train", shuffle_files=True, read_config=tfds.ReadConfig(try_autocache=caches)
    )

    def pair(example: dict) -> tuple[tf.Tensor, tf.Tensor]:
        image = example["image"]
        return image["encoded"], image["segmentation"]["class"]["encoded"]

    shuffled = split.repeat().map(pair, tf.data.AUTOTUNE).shuffle(_BATCH_SIZE)
    return shuffled.map(_augment_plainly, tf.data.AUTOTUNE).batch(_BATCH_SIZE).prefetch(2)


def resume(data_dir: str) -> float:
    """Seconds until the first batch when resuming at the last step of an epoch."""
    last_step = _shards(data_dir).num_records // _BATCH_SIZE - 1
    started_s = time.perf_counter()
    next(iter(train(data_dir, start_step=last_step)))
    return time.perf_counter() - started_s


def _augment_plainly(image: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    start, size, _ = tf.image.sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros([1, 0, 4]),
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(_USUAL.min_crop_area, 1.0),
        use_image_if_no_bounding_boxes=True,
    )
    image = tf.image.resize(tf.slice(image, start, [size[0], size[1], 3]), [_SIZE, _SIZE])
    mask = tf.slice(mask, start, [size[0], size[1], 1])
    mask = tf.image.resize(mask, [_SIZE, _SIZE], method="nearest")
    if tf.random.uniform([]) < 0.5:
        image, mask = tf.image.flip_left_right(image), tf.image.flip_left_right(mask)
    return tf.cast(image, tf.uint8), mask - 1


def _with_windows(fields: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    drawn = windows.sample_windows(
        _USUAL.min_crop_area,
        _USUAL.max_crop_aspect,
        _BATCH_SIZE,
        tf.random.uniform([2], 0, 1 << 30, tf.int64),
    )
    height, width = (tf.cast(fields[name], tf.int32) for name in (record.HEIGHT, record.WIDTH))
    placed = windows.place_windows(height, width, drawn, keep_aspect=False, size=_SIZE)
    return fields[record.IMAGE], fields[record.MASK], placed


def _serialized(shards: Shards) -> tf.data.Dataset:
    return reading.read_epochs(shards, shuffle_records=_SHUFFLE_RECORDS, seed=0)


def _shards(data_dir: str) -> Shards:
    split = manifest.read_manifest(data_dir).split("train", data_dir)
    return reading.shards_in(data_dir, split)


def _speed(make: Callable[[str], tf.data.Dataset], data_dir: str, records: int) -> float:
    """Images per second after the first batch, without loading and building."""
    iterator = iter(make(data_dir))
    next(iterator)
    steps = -(-records // _BATCH_SIZE)
    started_s = time.perf_counter()
    for _ in itertools.islice(iterator, steps):
        pass
    return steps * _BATCH_SIZE / (time.perf_counter() - started_s)
