"""A folder of features: what it holds, and what it was made from.

    DIR/features-train.tfrecord-00000-of-00016 ...            every image as it is
    DIR/features-train_mirrored.tfrecord-00000-of-00016 ...   mirrored
    DIR/features-train_crop1.tfrecord-00000-of-00016 ...      a fixed window of each
    DIR/features-validation.tfrecord-00000-of-00016 ...
    DIR/manifest.json                 written last; its `source` is the cache's key

Records lie in the order of input_pipeline.pipeline.make_for_eval, cut into shards of similar
size.
"""

import dataclasses
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from etils import epath

from petseg.data import manifest, shard_files
from petseg.data.manifest import Manifest, Split
from petseg.errors import UserError
from petseg.feature_cache import views as feature_views
from petseg.feature_cache.records import Layout

SETTING = "config.data.feature_cache_dir"
# The key: all that features depend on, by name. STAGES is compared by itself, as a cache may
# hold more stages than a run needs.
Key = Mapping[str, str | int]
STAGES = "stages"
IMAGE_CLASSES = "image_classes"  # whether records hold them; caches of petseg 0.2 do not
_FIRST_EDITION_KEYS = ("backbone", "pools")
_NAME = "features"
_SHARD_BYTES = 128 << 20  # 128 MiB
_LEAST_SHARDS = 16  # so that an epoch mixes views, and hosts can share


@dataclasses.dataclass(frozen=True)
class Part:
    """One split of the data set in one view.

    Attributes:
      name: Name of its split in the cache's manifest.
      split: Name of the data set's split.
      view: One of views.views_of.
      records: Number of examples.
    """

    name: str
    split: str
    view: str
    records: int


@dataclasses.dataclass(frozen=True)
class Task:
    """One shard to write.

    Attributes:
      name: The file's name.
      part: The part that it belongs to.
      first: Index in the split of its first record.
      end: Index after its last record.
    """

    name: str
    part: Part
    first: int
    end: int

    @property
    def records(self) -> int:
        """Number of records in the shard."""
        return self.end - self.first


def plan_parts(views: Sequence[str], train: Split, validation: Split) -> list[Part]:
    """What a cache must hold: the training split in all views, the validation split in one."""
    parts = [
        Part(
            "train" if view == feature_views.WHOLE else f"train_{view}",
            "train",
            view,
            train.records,
        )
        for view in views
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
            name = manifest.shard_name(_NAME, part.name, index, len(runs))
            tasks.append(Task(name, part, run[0], run[-1] + 1))
    return tasks


def read_finished(folder: str) -> Manifest | None:
    """The manifest of a cache; None if there is none, or it was never finished.

    Raises:
      UserError: The manifest is damaged.
    """
    if not (epath.Path(folder) / manifest.FILE_NAME).exists():
        return None
    return manifest.read_manifest(folder, f"delete {folder}, to have it made again")


def check_key(folder: str, source: Key, key: Key) -> None:
    """Checks that a finished cache was made from what a run would make it from.

    Args:
      folder: The cache.
      source: The key in its manifest.
      key: The run's key; stages are not compared.

    Raises:
      UserError: They differ, the folder is another kind of data set, or petseg's first edition
        wrote it.
    """
    advice = "name another folder, or delete it"
    if any(name in source for name in _FIRST_EDITION_KEYS):
        raise UserError(
            f"{SETTING}={folder} holds features of petseg 0.1, which this version cannot "
            f"read; {advice}"
        )
    if STAGES not in source:
        raise UserError(f"{SETTING}={folder} is not a feature cache; name another folder")
    for name, value in key.items():
        # A cache without windows has no value for them: they are added to it.
        if name != STAGES and source.get(name, value) != value:
            raise UserError(
                f"{SETTING}={folder} was filled with {name}={source[name]}, this run has "
                f"{name}={value}; {advice}"
            )


def join_stages(stages: Iterable[str]) -> str:
    """Stages as the key holds them."""
    return ", ".join(stages)


def split_stages(source: Key) -> tuple[str, ...]:
    """The stages of a key."""
    return tuple(str(source[STAGES]).split(", "))


def check_space(folder: str, tasks: Iterable[Task], layout: Layout) -> int:
    """The bytes that are still to be written.

    Raises:
      UserError: The disk has less space.
    """
    absent = [task for task in tasks if not (epath.Path(folder) / task.name).exists()]
    needed_bytes = sum(task.records for task in absent) * layout.record_bytes
    if "://" not in folder:
        existing = Path(folder)
        while not existing.exists():
            existing = existing.parent
        free_bytes = shutil.disk_usage(existing).free
        if needed_bytes > free_bytes:
            raise UserError(
                f"{SETTING}={folder}: the features take {needed_bytes >> 20:,} MiB, "
                f"{free_bytes >> 20:,} MiB are free; take another disk, a smaller "
                "config.data.image_size, or leave it out"
            )
    return needed_bytes


def finish(folder: str, tasks: Sequence[Task], key: Key, raw_labels: dict[int, str]) -> None:
    """Writes the manifest: the parts that it held before, and those that were written.

    Args:
      folder: The cache, with the metadata of all written shards in shard_files.WORK_DIR.
      tasks: The shards of all parts that were written, on all hosts.
      key: What the features depend on.
      raw_labels: Raw mask value -> its name, of the data set.
    """
    splits, source = {}, dict(key)
    if before := read_finished(folder):
        splits, source = dict(before.splits), {**before.source, **key}
    for part in dict.fromkeys(task.part for task in tasks):
        shards = [shard_files.read_metadata(folder, t.name) for t in tasks if t.part == part]
        splits[part.name] = Split(tuple(shards))
    shard_files.remove_others(folder, {s.name for split in splits.values() for s in split.shards})
    manifest.write_manifest(folder, Manifest(_NAME, source, raw_labels, splits, ()))
