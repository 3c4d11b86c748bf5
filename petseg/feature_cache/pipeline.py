"""Two pipelines over a feature cache: the twins of those over images in batches.py."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from petseg.data.label_map import IGNORE
from petseg.feature_cache.records import Layout, parse_records
from petseg.input_pipeline import shard_reading
from petseg.input_pipeline.shard_reading import Shards


def make_for_train(
    views: Sequence[Shards],
    layout: Layout,
    blocks: Sequence[int],
    *,
    class_ids: np.ndarray,
    batch_size: int,
    shuffle_records: int,
    seed: int,
    start_step: int = 0,
    worker: int = 0,
    num_workers: int = 1,
    share_files: bool = False,
    deterministic: bool = True,
) -> tf.data.Dataset:
    """An endless stream of training batches; the n-th depends on the arguments and n alone.

    An epoch sees each image in one view, and as many epochs as there are views see it in
    each of them once.

    Args:
      views: of the split: the same records, shard by shard, each seen otherwise.
      layout: of the cache.
      blocks: whose pools are wanted.
      class_ids: uint8 [256], raw mask value -> class id.
      batch_size: the global batch, over all workers.
      shuffle_records: size of the shuffle buffer, in serialized records.
      seed: of order and views.
      start_step: the batch to begin with.
      worker: which of the workers that share each global batch this one is.
      num_workers: how many there are; they must divide batch_size.
      share_files: as of batches.make_for_train.
      deterministic: as of batches.make_for_train.

    Returns:
      A dataset of dicts, of this worker's share: see feature_records.parse_records.

    Raises:
      ValueError: the workers cannot share a batch evenly.
    """
    if batch_size % num_workers:
        raise ValueError(f"batches of {batch_size} do not divide by {num_workers} workers")
    share = batch_size // num_workers
    own = shard_reading.share_out(views, worker, num_workers) if share_files else None
    mine = slice(None) if own else slice(worker * share, (worker + 1) * share)
    together = share if own else batch_size  # records that are read for one batch

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = parse_records(serialized[mine], layout, blocks, class_ids)
        return {k: tf.ensure_shape(v, [share, *v.shape[1:]]) for k, v in parsed.items()}

    first, *others = own or views
    return (
        shard_reading.read_epochs(
            first,
            more_views=others,
            shuffle_records=shuffle_records,
            seed=seed,
            start_record=start_step * together,
            deterministic=deterministic,
        )
        .batch(together, drop_remainder=True)
        .map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=deterministic)
        .prefetch(tf.data.AUTOTUNE)
    )


def make_for_eval(
    shard_paths: Sequence[str],
    layout: Layout,
    blocks: Sequence[int],
    *,
    class_ids: np.ndarray,
    batch_size: int,
    worker: int = 0,
    num_workers: int = 1,
) -> tf.data.Dataset:
    """Every record exactly once, in the order of batches.make_for_eval over the images.

    Args:
      shard_paths: of the cached split.
      layout: of the cache.
      blocks: whose pools are wanted.
      class_ids: uint8 [256], raw mask value -> class id.
      batch_size: the global batch.
      worker: which of the workers that share each global batch this one is.
      num_workers: how many there are; they must divide batch_size.

    Returns:
      A dataset of dicts, of this worker's share: see feature_records.parse_records; and
      `weight`, int64 [batch], 1, or 0 for an example that only fills up: all 0, its mask
      all IGNORE.
    """
    share = batch_size // num_workers
    mine = slice(worker * share, (worker + 1) * share)

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = parse_records(serialized[mine], layout, blocks, class_ids)
        count = tf.shape(parsed["mask"])[0]
        parsed["weight"] = tf.ones([count], tf.int64)
        return {name: _fill(name, rows, share - count, share) for name, rows in parsed.items()}

    return (
        # One shard after the other: in this order the records were written.
        shard_reading.read(shard_paths, shards_at_once=1)
        .batch(batch_size)
        .map(parse, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )


def _fill(name: str, rows: tf.Tensor, lacking: tf.Tensor, share: int) -> tf.Tensor:
    value = tf.constant(IGNORE if name == "mask" else 0, rows.dtype)
    padding = [[0, lacking]] + [[0, 0]] * (rows.shape.rank - 1)
    return tf.ensure_shape(tf.pad(rows, padding, constant_values=value), [share, *rows.shape[1:]])
