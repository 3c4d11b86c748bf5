"""Serialized records of shards, in an order that a seed decides, from any place on."""

import dataclasses
import sys
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from petseg.data.manifest import Split
from petseg.seeds import Stream, fold_seed

SHARDS_AT_ONCE = 8


@dataclasses.dataclass(frozen=True)
class Shards:
    """Shards of one split.

    Attributes:
      paths: TFRecord files.
      records: how many records each of them holds.
    """

    paths: tuple[str, ...]
    records: tuple[int, ...]

    @property
    def num_records(self) -> int:
        """How many records they hold together."""
        return sum(self.records)


def shards_in(folder: str, split: Split) -> Shards:
    """The shards of a split that lie in a folder."""
    return Shards(
        tuple(f"{folder}/{shard.name}" for shard in split.shards),
        tuple(shard.records for shard in split.shards),
    )


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

    An epoch takes the shards in an order of its own, some at a time: a group. Records of
    a group alternate between its shards and pass a shuffle buffer, so they mix within a
    group. Groups before `start_record` are not opened; what is before it in its own group
    is read and dropped, which bounds the time that a resume takes.

    Args:
      shards: what to read.
      shuffle_records: size of the shuffle buffer.
      seed: of every order.
      start_record: how many records of the stream to leave out.
      epochs: how many epochs, counted from the stream's beginning; None never ends.
      shards_at_once: how many shards are a group.
      deterministic: let no reader overtake another.
      more_views: other shards with as many records each, one for each of `shards`. Every
        epoch takes each shard or one of those in its place, so that each of them comes once
        in as many epochs as there are.

    Returns:
      A dataset of strings, shape []; the n-th is a function of the arguments and n.
    """
    first_epoch, place = divmod(start_record, shards.num_records)
    groups = -(-len(shards.paths) // shards_at_once)
    first_group, skipped = _find(shards, first_epoch, place, shards_at_once, seed)
    first_task = first_epoch * groups + first_group
    end_task = tf.int64.max if epochs is None else epochs * groups
    paths = tf.constant([shards.paths, *(view.paths for view in more_views)])

    def read_group(task: tf.Tensor) -> tf.data.Dataset:
        epoch, group = task // groups, task % groups
        order = _shard_order(len(shards.paths), seed, epoch)
        views = tf.gather(_view_of_shards(*paths.shape, seed, epoch), order)
        ordered = tf.gather_nd(paths, tf.stack([views, order], 1))
        mine = ordered[group * shards_at_once : (group + 1) * shards_at_once]
        record_seed = tf.random.stateless_uniform(
            [], fold_seed(seed, Stream.RECORD_ORDER, task), 0, tf.int64.max, tf.int64
        )
        return (
            read(mine, shards_at_once, deterministic)
            .shuffle(shuffle_records, seed=record_seed, reshuffle_each_iteration=False)
            .skip(tf.where(task == first_task, np.int64(skipped), 0))
        )

    # One group at a time; the next one's buffer is filled meanwhile.
    return tf.data.Dataset.range(first_task, end_task).interleave(
        read_group, cycle_length=1, num_parallel_calls=1, deterministic=deterministic
    )


def share_out(views: Sequence[Shards], worker: int, num_workers: int) -> list[Shards] | None:
    """The shards that are one worker's own; None if they cannot be shared out evenly.

    Even is: the same number for each. Then a worker reads only what is its own; otherwise
    all read everything and each takes its part of every batch. The first worker says which
    on standard error.

    Args:
      views: of the whole split: its shards, and others in their place if there are.
      worker: which one, from 0.
      num_workers: how many there are.
    """
    each, left = divmod(len(views[0].paths), num_workers)
    if num_workers > 1 and worker == 0:
        way = (
            f"by record: {len(views[0].paths)} shards do not divide by them, so each reads all"
            if left
            else f"by file: {each} shard(s) each"
        )
        print(f"{num_workers} workers share the training images {way}", file=sys.stderr)
    if left:
        return None
    mine = slice(worker, None, num_workers)
    return [Shards(view.paths[mine], view.records[mine]) for view in views]


def read(
    paths: tf.Tensor | Sequence[str],
    shards_at_once: int = SHARDS_AT_ONCE,
    deterministic: bool = True,
) -> tf.data.Dataset:
    """Serialized records, strings of shape [], that alternate between several shards."""
    return tf.data.Dataset.from_tensor_slices(tf.convert_to_tensor(paths)).interleave(
        tf.data.TFRecordDataset,
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
    begun = tf.random.stateless_uniform(
        [num_shards], fold_seed(seed, Stream.VIEW, epoch // num_views), 0, num_views, tf.int32
    )
    return (begun + tf.cast(epoch % num_views, tf.int32)) % num_views


def _find(
    shards: Shards, epoch: int, place: int, shards_at_once: int, seed: int
) -> tuple[int, int]:
    """The group of an epoch that holds its n-th record, and how many come before it there."""
    order = _shard_order(len(shards.paths), seed, tf.constant(epoch, tf.int64)).numpy()
    counts = np.asarray(shards.records)[order]
    for group, first in enumerate(range(0, len(counts), shards_at_once)):
        held = int(counts[first : first + shards_at_once].sum())
        if place < held:
            return group, place
        place -= held
    raise ValueError(f"there is no record {place} after the last of epoch {epoch}")
