"""Two pipelines over a feature cache: the counterparts of input_pipeline.pipeline."""

from collections.abc import Sequence

import tensorflow as tf

from petseg.data.label_map import IGNORE
from petseg.feature_cache.records import Layout, parse_records
from petseg.input_pipeline import reading
from petseg.input_pipeline.pipeline import InputOptions
from petseg.input_pipeline.reading import Shards
from petseg.input_pipeline.truth import IMAGE_CLASS
from petseg.input_pipeline.verified_shards import VerifiedShards
from petseg.losses.base import UNKNOWN_CLASS

_FILLING = {"mask": IGNORE, IMAGE_CLASS: UNKNOWN_CLASS}


@tf.autograph.experimental.do_not_convert
def make_for_train(
    views: Sequence[Shards],
    layout: Layout,
    stages: Sequence[str],
    options: InputOptions,
    *,
    start_step: int = 0,
    worker: int = 0,
    num_workers: int = 1,
) -> tf.data.Dataset:
    """An endless stream of training batches; the n-th depends on the arguments and n alone.

    Every epoch takes each image in one view, and as many epochs as there are views take it
    once in each.

    Args:
      views: The split in each view: the same examples, shard by shard.
      layout: Layout of the cache.
      stages: The stages whose outputs are wanted.
      options: Of these class_ids, batch_size, shuffle_records, seed, share_files,
        deterministic, threads, ram_budget_mib and has_image_class count.
      start_step: The first batch.
      worker: Index of this worker among those that share each global batch.
      num_workers: Number of workers; they must divide the global batch.

    Returns:
      A dataset of dicts, this worker's share of each batch: see records.parse_records.

    Raises:
      ValueError: The workers cannot share a batch evenly.
    """
    split = reading.split_batches(
        views, options.batch_size, worker, num_workers, options.share_files
    )

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = parse_records(
            serialized[split.read_rows], layout, stages, options.class_ids, options.has_image_class
        )
        return {k: tf.ensure_shape(v, [split.share, *v.shape[1:]]) for k, v in parsed.items()}

    first, *others = split.views
    return (
        reading.read_epochs(
            first,
            more_views=others,
            shuffle_records=options.shuffle_records,
            seed=options.seed,
            start_record=start_step * split.records_per_step,
            deterministic=options.deterministic,
        )
        .batch(split.records_per_step, drop_remainder=True)
        .map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=options.deterministic)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(options.tf_data_options())
    )


@tf.autograph.experimental.do_not_convert
def make_for_eval(
    shard_paths: Sequence[str],
    layout: Layout,
    stages: Sequence[str],
    options: InputOptions,
    *,
    worker: int = 0,
    num_workers: int = 1,
    verified: VerifiedShards | None = None,
) -> tf.data.Dataset:
    """Every record exactly once, in the order of input_pipeline.pipeline.make_for_eval.

    Args:
      shard_paths: The shards of the cached split.
      layout: Layout of the cache.
      stages: The stages whose outputs are wanted.
      options: Of these class_ids, batch_size and has_image_class count.
      worker: Index of this worker among those that share each global batch.
      num_workers: Number of workers; they must divide the global batch.
      verified: See reading.Shards.

    Returns:
      A dataset of dicts, this worker's share of each batch: see records.parse_records; and
      `weight`, int64 [batch], 1, or 0 for an example that only fills up: all 0, its mask
      all IGNORE, its class unknown.
    """
    share = options.batch_size // num_workers
    rows = slice(worker * share, (worker + 1) * share)

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = parse_records(
            serialized[rows], layout, stages, options.class_ids, options.has_image_class
        )
        count = tf.shape(parsed["mask"])[0]
        parsed["weight"] = tf.ones([count], tf.int64)
        return {name: _fill(name, part, share - count, share) for name, part in parsed.items()}

    return (
        # One shard after the other: in this order the records were written.
        reading.read(shard_paths, shards_at_once=1, verified=verified)
        .batch(options.batch_size)
        .map(parse, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )


def _fill(name: str, rows: tf.Tensor, lacking: tf.Tensor, share: int) -> tf.Tensor:
    value = tf.constant(_FILLING.get(name, 0), rows.dtype)
    padding = [[0, lacking]] + [[0, 0]] * (rows.shape.rank - 1)
    return tf.ensure_shape(tf.pad(rows, padding, constant_values=value), [share, *rows.shape[1:]])
