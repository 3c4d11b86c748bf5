"""Two pipelines over the same shards: one for training, one for evaluation.

Both give uint8; casts and mean subtraction happen on the device.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from petseg import record
from petseg.input_pipeline import augment
from petseg.label_map import IGNORE

# Folded into the run's seed; each use of randomness has its own stream.
_SHARD_ORDER, _RECORD_ORDER, _EXAMPLE = 1, 2, 3
_SHARDS_READ_AT_ONCE = 8


def make_for_train(
    shard_paths: Sequence[str],
    *,
    num_records: int,
    class_ids: np.ndarray,
    image_size: int,
    batch_size: int,
    shuffle_records: int,
    flip: bool,
    min_crop_area: float,
    max_crop_aspect: float,
    seed: int,
    start_step: int = 0,
) -> tf.data.Dataset:
    """An endless stream of training batches.

    The n-th batch depends on the arguments, the shards and n alone. Epochs follow
    each other without a gap: a batch may end one and begin the next. Records before
    `start_step` are skipped before they are decoded.

    Args:
      shard_paths: TFRecord files.
      num_records: how many records they hold together.
      class_ids: uint8 [256], raw mask value -> class id.
      image_size: height and width of the images given, in pixels.
      batch_size: the global batch.
      shuffle_records: size of the shuffle buffer, in serialized records.
      flip: mirror half of the examples.
      min_crop_area: see augment.sample_window; 1.0 takes whole images.
      max_crop_aspect: see augment.sample_window.
      seed: of order and augmentation.
      start_step: the batch to begin with.

    Returns:
      A dataset of dicts:
        image: uint8 [batch, image_size, image_size, 3], RGB.
        mask: uint8 [batch, image_size, image_size], class ids or IGNORE.
    """
    first_epoch, first_place = divmod(start_step * batch_size, num_records)
    paths = tf.constant(list(shard_paths))

    def read_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(
            paths, seed=_seed(seed, _SHARD_ORDER, epoch)
        )
        record_seed = tf.random.stateless_uniform(
            [], _seed(seed, _RECORD_ORDER, epoch), 0, tf.int64.max, tf.int64
        )
        epoch_records = (
            _read(tf.data.Dataset.from_tensor_slices(order), len(shard_paths))
            .shuffle(shuffle_records, seed=record_seed, reshuffle_each_iteration=False)
            .enumerate(start=epoch * num_records)
        )
        return epoch_records.skip(tf.where(epoch == first_epoch, np.int64(first_place), 0))

    def make_example(place: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        example_seed = _seed(seed, _EXAMPLE, place)
        fields = record.parse_record(serialized)
        if min_crop_area < 1.0:
            image, mask = _decode_window(fields, min_crop_area, max_crop_aspect, example_seed)
        else:
            image = record.decode_image(fields[record.IMAGE])
            mask = record.decode_mask(fields[record.MASK])
        image, mask = resize_image(image, image_size), resize_mask(mask, image_size)
        if flip:
            image, mask = augment.random_flip(image, mask, example_seed)
        return {"image": image, "mask": _to_class_ids(mask, class_ids)}

    return (
        tf.data.Dataset.counter(first_epoch)
        .flat_map(read_epoch)
        .map(make_example, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def make_for_eval(
    shard_paths: Sequence[str],
    *,
    class_ids: np.ndarray,
    image_size: int,
    batch_size: int,
) -> tf.data.Dataset:
    """Every record exactly once, in an order that never varies.

    The last batch is filled up with examples of weight 0 whose mask is all IGNORE.

    Args:
      shard_paths: TFRecord files.
      class_ids: uint8 [256], raw mask value -> class id.
      image_size: height and width of the images given, in pixels.
      batch_size: the global batch.

    Returns:
      A dataset of dicts:
        image: uint8 [batch, image_size, image_size, 3], RGB.
        mask: uint8 [batch, image_size, image_size], class ids or IGNORE.
        weight: int64 [batch], 1, or 0 for an example that only fills up.
    """

    def make_example(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        fields = record.parse_record(serialized)
        image = resize_image(record.decode_image(fields[record.IMAGE]), image_size)
        mask = resize_mask(record.decode_mask(fields[record.MASK]), image_size)
        return {
            "image": image,
            "mask": _to_class_ids(mask, class_ids),
            "weight": tf.constant(1, tf.int64),
        }

    def fill_up(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        lacking = batch_size - tf.shape(batch["weight"])[0]

        def pad(tensor: tf.Tensor, value: int) -> tf.Tensor:
            padding = [[0, lacking]] + [[0, 0]] * (tensor.shape.rank - 1)
            padded = tf.pad(tensor, padding, constant_values=value)
            return tf.ensure_shape(padded, [batch_size, *tensor.shape[1:]])

        return {
            "image": pad(batch["image"], 0),
            "mask": pad(batch["mask"], IGNORE),
            "weight": pad(batch["weight"], 0),
        }

    return (
        _read(tf.data.Dataset.from_tensor_slices(list(shard_paths)), len(shard_paths))
        .map(make_example, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size)
        .map(fill_up)
        .prefetch(tf.data.AUTOTUNE)
    )


def resize_image(image: tf.Tensor, size: int) -> tf.Tensor:
    """Squashes to uint8 [size, size, channels], bilinear with antialiasing."""
    resized = tf.image.resize(image, [size, size], antialias=True)
    return tf.saturate_cast(tf.round(resized), tf.uint8)


def resize_mask(mask: tf.Tensor, size: int) -> tf.Tensor:
    """Squashes labels [height, width, 1] to [size, size, 1], nearest neighbour."""
    return tf.image.resize(mask, [size, size], method="nearest")


def _read(paths: tf.data.Dataset, num_paths: int) -> tf.data.Dataset:
    """Serialized records of several shards at once, in an order that never varies."""
    return paths.interleave(
        tf.data.TFRecordDataset,
        cycle_length=min(num_paths, _SHARDS_READ_AT_ONCE),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def _decode_window(
    fields: dict[str, tf.Tensor], min_area: float, max_aspect: float, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes only the part of the image that a random window shows."""
    window = augment.sample_window(
        tf.cast(fields[record.HEIGHT], tf.int32),
        tf.cast(fields[record.WIDTH], tf.int32),
        min_area,
        max_aspect,
        seed,
    )
    image = tf.image.decode_and_crop_jpeg(fields[record.IMAGE], window, channels=3)
    top, left, height, width = tf.unstack(window)
    mask = record.decode_mask(fields[record.MASK])
    return image, mask[top : top + height, left : left + width]


def _to_class_ids(mask: tf.Tensor, class_ids: np.ndarray) -> tf.Tensor:
    return tf.gather(tf.constant(class_ids), tf.cast(mask[..., 0], tf.int32))


def _seed(seed: int, stream: int, place: tf.Tensor) -> tf.Tensor:
    """An int64 [2] seed of its own for each run, use of randomness and place."""
    return tf.random.fold_in(tf.constant([seed, stream], tf.int64), tf.cast(place, tf.int64))
