"""A folder of features: what is in it, what it was made of, and how it is filled.

    DIR/features-train.tfrecord-00000-of-00016 ...            every image as it is
    DIR/features-train_mirrored.tfrecord-00000-of-00016 ...   mirrored
    DIR/features-train_crop1.tfrecord-00000-of-00016 ...      a fixed window of each
    DIR/features-validation.tfrecord-00000-of-00016 ...
    DIR/manifest.json                 written last; its `source` is the key

Records lie in the order of batches.make_for_eval, cut into shards of like size.
"""

import concurrent.futures
import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tensorflow as tf
from etils import epath

from petseg.data import manifest, shard_files
from petseg.data.manifest import Manifest, Shard, Split
from petseg.errors import UserError
from petseg.feature_cache import records as feature_records
from petseg.feature_cache import views as feature_views
from petseg.feature_cache.records import Layout

SETTING = "config.data.feature_cache_dir"
POOLS = "pools"  # in the manifest's source: the blocks, as in "3, 4, 5"
_NAME = "features"
_SHARD_BYTES = 128 << 20  # 128 MiB
_LEAST_SHARDS = 16  # so that an epoch mixes views, and hosts can share
_MOST_PENDING = 4  # batches that wait to be written

Extract = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Part:
    """What a cache holds, under one name, of a split.

    Attributes:
      name: in the cache's manifest.
      split: of the data set.
      view: of feature_views.
      records: their number.
    """

    name: str
    split: str
    view: str
    records: int


@dataclasses.dataclass(frozen=True)
class Task:
    """One shard to write.

    Attributes:
      name: the file's.
      part: whose shard it is.
      first: place in the split of its first record.
      end: the place after its last.
    """

    name: str
    part: Part
    first: int
    end: int


def plan_parts(views: Sequence[str], train: Split, validation: Split) -> list[Part]:
    """What a cache must hold: the training split in all views, the validation split in one."""
    parts = [
        Part("train" if view == feature_views.WHOLE else f"train_{view}", "train", view, n)
        for view, n in ((view, train.records) for view in views)
    ]
    return [*parts, Part("validation", "validation", feature_views.WHOLE, validation.records)]


def plan_tasks(parts: Iterable[Part], layout: Layout) -> list[Task]:
    """The shards of some parts; they follow from the number and size of records alone."""
    tasks = []
    for part in parts:
        total = part.records * layout.record_bytes
        runs = shard_files.plan_shards(
            range(part.records),
            [layout.record_bytes] * part.records,
            min(_SHARD_BYTES, total / _LEAST_SHARDS),
        )
        for index, run in enumerate(runs):
            name = shard_files.shard_name(_NAME, part.name, index, len(runs))
            tasks.append(Task(name, part, run[0], run[-1] + 1))
    return tasks


def stored_pools(folder: str) -> set[int]:
    """The blocks whose pools a finished cache holds; empty if there is none."""
    if not (epath.Path(folder) / manifest.FILE_NAME).exists():
        return set()
    listed = manifest.read_manifest(folder).source.get(POOLS, "")
    return {int(block) for block in listed.split(", ") if block.isdigit()}


def lacking(folder: str, parts: Sequence[Part], about: Mapping[str, str | int]) -> list[Part]:
    """The parts that a cache does not hold yet: all, if there is no cache.

    Args:
      folder: of the cache.
      parts: what is wanted.
      about: what the features depend on, as the manifest's `source`.

    Raises:
      UserError: the cache is damaged, or was made of something else.
    """
    if not (epath.Path(folder) / manifest.FILE_NAME).exists():
        return list(parts)
    found = manifest.read_manifest(folder)
    for key, value in about.items():
        if found.source.get(key, value) != value:
            raise UserError(
                f"{SETTING}={folder} holds features of another {key.replace('_', ' ')}: "
                f"{found.source[key]}, now it is {value}; name another folder, or delete it"
            )
    return [part for part in parts if part.name not in found.splits]


def check_room(folder: str, tasks: Iterable[Task], layout: Layout) -> int:
    """How many bytes the shards that are not there take; raises UserError if there is no room."""
    absent = [task for task in tasks if not (epath.Path(folder) / task.name).exists()]
    needed = sum((task.end - task.first) * layout.record_bytes for task in absent)
    if "://" not in folder:
        there = Path(folder)
        while not there.exists():
            there = there.parent
        free = shutil.disk_usage(there).free
        if needed > free:
            raise UserError(
                f"{SETTING}={folder}: the features take {needed >> 20:,} MiB, there is room for "
                f"{free >> 20:,}; take another disk, a smaller config.data.image_size, or "
                "leave it out"
            )
    return needed


def missing(folder: str, tasks: Iterable[Task], inputs: str) -> list[Task]:
    """The shards that are not whole, or were made of something else.

    Args:
      folder: of the cache.
      tasks: that are wanted.
      inputs: all that decides over a shard's bytes beside its task, as text.
    """

    def is_whole(task: Task) -> bool:
        account = shard_files.read_metadata(folder, task.name)
        return (
            account is not None
            and account.inputs == _digest(task, inputs)
            and shard_files.is_written(account, folder)
        )

    return [task for task in tasks if not is_whole(task)]


def write_shards(
    folder: str,
    tasks: Iterable[Task],
    inputs: str,
    read: Callable[[Part, np.ndarray], tf.data.Dataset],
    extract: Extract,
) -> Iterator[int]:
    """Computes and writes shards; gives the number of images after each batch.

    Args:
      folder: of the cache, with shard_files.WORK_DIR in it.
      tasks: of `missing`.
      inputs: as of `missing`.
      read: a part, and bool [records], the places wanted -> batches of
        feature_views.read_view.
      extract: uint8 images -> modeling.features.encode, as arrays.

    Raises:
      FaultFound: the disk is full or the folder cannot be written.
    """
    by_part: dict[Part, list[Task]] = {}
    for task in tasks:
        by_part.setdefault(task.part, []).append(task)
    for part, of_part in by_part.items():
        wanted = np.zeros(part.records, bool)
        for task in of_part:
            wanted[task.first : task.end] = True
        yield from _fill(_Writer(folder, of_part, inputs), read(part, wanted), extract)


def _digest(task: Task, inputs: str) -> str:
    return hashlib.sha256(f"{inputs} {task}".encode()).hexdigest()


def _fill(writer: "_Writer", batches: tf.data.Dataset, extract: Extract) -> Iterator[int]:
    """Has one thread write what was computed, while the next batch is; gives each one's size."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        pending: list[concurrent.futures.Future] = []
        for batch in batches.as_numpy_iterator():
            encoded = extract(batch["image"])
            pending.append(thread.submit(writer.add, batch, encoded))
            if len(pending) > _MOST_PENDING:
                pending.pop(0).result()
            yield len(batch["place"])
        for future in pending:
            future.result()


class _Writer:
    """Writes the examples of some shards, in their order, one shard after the other."""

    def __init__(self, folder: str, tasks: Iterable[Task], inputs: str):
        self._folder, self._inputs = folder, inputs
        self._tasks = iter(tasks)
        self._file: BinaryIO | None = None

    def add(self, batch: Mapping[str, np.ndarray], encoded: Mapping[str, np.ndarray]) -> None:
        """Appends a batch of read_view, with what was computed of its images."""
        for row, place in enumerate(batch["place"].tolist()):
            if self._file is None:
                self._begin()
            record = feature_records.encode_record(
                batch["name"][row],
                batch["mask"][row],
                batch["sides"][row],
                {key: values[row] for key, values in encoded.items()},
            )
            with shard_files.reported_as_fault(SETTING, self._folder, self._task.name):
                self._file.write(self._frames.add(record))
                if place == self._task.end - 1:
                    self._end()

    def _begin(self) -> None:
        self._task = next(self._tasks)
        self._frames = shard_files.Frames()
        self._path = shard_files.temporary(self._folder, self._task.name)
        with shard_files.reported_as_fault(SETTING, self._folder, self._task.name):
            self._file = self._path.open("wb")

    def _end(self) -> None:
        shard_files.flush(self._file)
        self._file.close()
        self._file = None
        account = Shard(
            name=self._task.name,
            records=self._frames.records,
            bytes=self._frames.bytes,
            sha256=self._frames.sha256(),
            inputs=_digest(self._task, self._inputs),
            pixels_per_label={},
            height_sum=0,
            width_sum=0,
        )
        shard_files.finish(self._path, account, self._folder)


def finish(
    folder: str, tasks: Sequence[Task], about: Mapping[str, str | int], raw_labels: dict[int, str]
) -> None:
    """Writes the manifest: what was there before, and the parts that were written.

    Args:
      folder: of the cache, with all accounts in shard_files.WORK_DIR.
      tasks: of all parts that were written, on all hosts.
      about: what the features depend on.
      raw_labels: of the data set.
    """
    splits, source = {}, dict(about)
    if (epath.Path(folder) / manifest.FILE_NAME).exists():
        before = manifest.read_manifest(folder)
        splits, source = dict(before.splits), {**before.source, **about}
    for part in dict.fromkeys(task.part for task in tasks):
        accounts = [shard_files.read_metadata(folder, t.name) for t in tasks if t.part == part]
        splits[part.name] = Split(tuple(accounts))
    shard_files.remove_others(folder, {s.name for split in splits.values() for s in split.shards})
    manifest.write_manifest(folder, Manifest(_NAME, source, raw_labels, splits, ()))
