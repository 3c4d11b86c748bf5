"""Serialized records of shards, in an order that a seed decides, from any position on."""

import dataclasses
import sys
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from petseg.data.manifest import Split
from petseg.input_pipeline.verified_shards import VerifiedShards
from petseg.seeds import Stream, fold_seed

SHARDS_AT_ONCE = 8


@dataclasses.dataclass(frozen=True)
class Shards:
    """Shards of one split.

    Attributes:
      paths: TFRecord files.
      records: Number of records in each of them.
      verified: Compares each of them with the manifest before it is first read; None does not.
    """

    paths: tuple[str, ...]
    records: tuple[int, ...]
    verified: VerifiedShards | None = None

    @property
    def num_records(self) -> int:
        """Number of records in all of them."""
        return sum(self.records)


def shards_in(folder: str, split: Split, verified: VerifiedShards | None = None) -> Shards:
    """The shards of a split that lie in a folder."""
    return Shards(
        tuple(f"{folder}/{shard.name}" for shard in split.shards),
        tuple(shard.records for shard in split.shards),
        verified,
    )


@tf.autograph.experimental.do_not_convert
def read_epochs(
    shards: Shards,
    *,
    shuffle_records: int,
    seed: int,
    start_record: int = 0,
    epochs: int | None = None,
    shards_at_once: int = SHARDS_AT_ONCE,
    deterministic: bool = True,
    more_views: Sequence[Shards] = (),
) -> tf.data.Dataset:
    """A stream of serialized records, epoch after epoch without a gap.

    Each epoch draws an order of the shards and takes some at a time: a group. Records of
    a group alternate between its shards and pass a shuffle buffer, so they mix within a
    group. Groups before `start_record` are never read; records before it in the same group
    are read and dropped, which bounds the time that a resume takes.

    The shards of one group are hashed ahead, in a thread of their own, and as many records as
    the shuffle buffer holds, at most an epoch, are ready when it is filled again. So the first
    record waits for the hashes of its own group alone, and no group's first record for
    anything. (A parallel interleave of groups opens two ahead in the thread that reads: the
    first record then waits for three groups, and each group for another.)

    Args:
      shards: The shards to read.
      shuffle_records: Size of the shuffle buffer.
      seed: Seed of every order.
      start_record: Number of records of the stream to leave out.
      epochs: Number of epochs, counted from the stream's beginning; None never ends.
      shards_at_once: Number of shards in a group.
      deterministic: Keep the order; otherwise records come as they are ready.
      more_views: Alternative views of `shards`: other shards with as many records each, in
        the same order. Every epoch takes each shard in one of its views, and as many epochs
        as there are views take it once in each.

    Returns:
      A dataset of strings, shape []; the n-th is a function of the arguments and n.
    """
    first_epoch, index = divmod(start_record, shards.num_records)
    groups = -(-len(shards.paths) // shards_at_once)
    first_group, skipped = _find_record(shards, first_epoch, index, shards_at_once, seed)
    first_task = first_epoch * groups + first_group
    end_task = tf.int64.max if epochs is None else epochs * groups
    paths = tf.constant([shards.paths, *(view.paths for view in more_views)])

    def find_group(task: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        epoch, group = task // groups, task % groups
        order = _shard_order(len(shards.paths), seed, epoch)
        views = tf.gather(_view_of_shards(*paths.shape, seed, epoch), order)
        ordered = tf.gather_nd(paths, tf.stack([views, order], 1))
        group_paths = ordered[group * shards_at_once : (group + 1) * shards_at_once]
        if shards.verified:
            group_paths = shards.verified.verified(group_paths, is_awaited=task == first_task)
        return task, group_paths

    def read_group(task: tf.Tensor, group_paths: tf.Tensor) -> tf.data.Dataset:
        record_seed = tf.random.stateless_uniform(
            [], fold_seed(seed, Stream.RECORD_ORDER, task), 0, tf.int64.max, tf.int64
        )
        return (
            read(group_paths, shards_at_once, deterministic)
            .shuffle(shuffle_records, seed=record_seed, reshuffle_each_iteration=False)
            .skip(tf.where(task == first_task, np.int64(skipped), 0))
        )

    groups_to_read = tf.data.Dataset.range(first_task, end_task).map(find_group).prefetch(1)
    # Of few records, more would be read over and over: 200 times for 20 records and 4096.
    ready = min(shuffle_records, shards.num_records)
    return groups_to_read.flat_map(read_group).prefetch(ready)


@dataclasses.dataclass(frozen=True)
class WorkerShare:
    """What one worker reads, and which of it the worker uses, for each global batch.

    Attributes:
      views: The shards that the worker reads, in each of their views.
      records_per_step: Records that it reads for each batch.
      read_rows: Which of these it uses.
      batch_rows: Which rows of the global batch they are.
      share: Number of these rows.
    """

    views: tuple[Shards, ...]
    records_per_step: int
    read_rows: slice
    batch_rows: slice
    share: int


def split_batches(
    views: Sequence[Shards], batch_size: int, worker: int, num_workers: int, share_files: bool
) -> WorkerShare:
    """How one of several workers gets its share of every global batch.

    With share_files, and where the number of shards divides by that of the workers, a worker
    reads only its own shards. Otherwise all workers read everything, and each uses its rows
    of every batch. With share_files the first worker prints which on standard error.

    Args:
      views: The whole split: its shards, and any alternative views of them.
      batch_size: The global batch.
      worker: Index of the worker, from 0.
      num_workers: Number of workers.
      share_files: Whether files may be shared out.

    Raises:
      ValueError: The workers cannot share a batch evenly.
    """
    if batch_size % num_workers:
        raise ValueError(f"batches of {batch_size} do not divide by {num_workers} workers")
    share = batch_size // num_workers
    rows = slice(worker * share, (worker + 1) * share)
    each, left = divmod(len(views[0].paths), num_workers)
    if share_files and num_workers > 1 and worker == 0:
        way = (
            f"by record: {len(views[0].paths)} shards do not divide by them, so each reads all"
            if left
            else f"by file: {each} shard(s) each"
        )
        print(f"{num_workers} workers share the training images {way}", file=sys.stderr)
    if left or not share_files:
        return WorkerShare(tuple(views), batch_size, rows, rows, share)
    files = slice(worker, None, num_workers)
    worker_views = tuple(
        Shards(view.paths[files], view.records[files], view.verified) for view in views
    )
    return WorkerShare(worker_views, share, slice(None), rows, share)


def read(
    paths: tf.Tensor | Sequence[str],
    shards_at_once: int = SHARDS_AT_ONCE,
    deterministic: bool = True,
    verified: VerifiedShards | None = None,
) -> tf.data.Dataset:
    """Serialized records, strings of shape [], that alternate between several shards."""

    @tf.autograph.experimental.do_not_convert
    def open_shard(path: tf.Tensor) -> tf.data.Dataset:
        return tf.data.TFRecordDataset(verified.verified(path) if verified else path)

    return tf.data.Dataset.from_tensor_slices(tf.convert_to_tensor(paths)).interleave(
        open_shard,
        cycle_length=shards_at_once,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=deterministic,
    )


def _shard_order(count: int, seed: int, epoch: tf.Tensor) -> tf.Tensor:
    return tf.random.experimental.stateless_shuffle(
        tf.range(count), seed=fold_seed(seed, Stream.SHARD_ORDER, epoch)
    )


def _view_of_shards(num_views: int, num_shards: int, seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """int32 [num_shards]: the view in which an epoch takes each shard."""
    first = tf.random.stateless_uniform(
        [num_shards], fold_seed(seed, Stream.VIEW, epoch // num_views), 0, num_views, tf.int32
    )
    return (first + tf.cast(epoch % num_views, tf.int32)) % num_views


def _find_record(
    shards: Shards, epoch: int, index: int, shards_at_once: int, seed: int
) -> tuple[int, int]:
    """The group that holds an epoch's n-th record, and the number of records before it there."""
    order = _shard_order(len(shards.paths), seed, tf.constant(epoch, tf.int64)).numpy()
    counts = np.asarray(shards.records)[order]
    for group, first in enumerate(range(0, len(counts), shards_at_once)):
        in_group = int(counts[first : first + shards_at_once].sum())
        if index < in_group:
            return group, index
        index -= in_group
    raise ValueError(f"there is no record {index} after the last of epoch {epoch}")
