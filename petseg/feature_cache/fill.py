"""Computes features of images and writes them to a cache."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO

import numpy as np
import tensorflow as tf

from petseg.data import manifest, output_folder, shard_files
from petseg.data.manifest import Manifest, Shard
from petseg.devices import Devices
from petseg.feature_cache import records as feature_records
from petseg.feature_cache import store
from petseg.feature_cache import views as feature_views
from petseg.feature_cache.records import Layout
from petseg.feature_cache.store import SETTING, Key, Part, Task
from petseg.feature_cache.views import ViewOptions
from petseg.input_pipeline import pictures
from petseg.input_pipeline.verified_shards import VerifiedShards
from petseg.models import features
from petseg.models.encoders.base import IMAGE
from petseg.models.segmentation_model import SegmentationModel
from petseg.progress import Progress

_IMAGES_AT_ONCE = 16  # per replica
_MOST_PENDING = 4  # batches that wait to be written

# uint8 images [n, height, width, 3] -> models.features.encode, as arrays.
Extract = Callable[[np.ndarray], dict[str, np.ndarray]]
# A part, and bool [records], the wanted examples -> batches of views.read_view.
ReadPart = Callable[[Part, np.ndarray], tf.data.Dataset]


@dataclasses.dataclass(frozen=True)
class Source:
    """The images that features are computed from.

    Attributes:
      data_dir: The data set.
      manifest: Its manifest.
      views: How images become views.
      verified: See reading.Shards.
    """

    data_dir: str
    manifest: Manifest
    views: ViewOptions
    verified: VerifiedShards | None = None

    def read(self, part: Part, wanted: np.ndarray, batch_size: int) -> tf.data.Dataset:
        """Batches of a part; see views.read_view.

        Args:
          part: The split and the view.
          wanted: bool [records], which examples of the split are wanted.
          batch_size: Examples in a batch; the last one may hold fewer.
        """
        paths = manifest.shard_paths(self.data_dir, self.manifest.splits[part.split])
        return feature_views.read_view(
            paths,
            part.view,
            wanted,
            self.views,
            batch_size,
            self.verified,
            pictures.of_store(self.manifest.store),
        )


def fill_cache(
    folder: str,
    parts: Sequence[Part],
    layout: Layout,
    key: Key,
    source: Source,
    model: SegmentationModel,
    devices: Devices,
    seen: Manifest | None,
) -> bool:
    """Computes the features of some parts; each host writes its share of the shards.

    An interrupted computation is resumed from its last whole shard. While another command
    fills the cache, this one waits.

    Args:
      folder: The cache; all hosts must have access to it.
      parts: The parts to add.
      layout: Layout of the cache.
      key: What the features depend on.
      source: The images.
      model: The model whose encoder computes the features.
      devices: The devices that compute.
      seen: The cache's manifest by which the parts were chosen.

    Returns:
      False if another command has changed the cache since it was seen: nothing was written.

    Raises:
      UserError: There is not enough space, or the folder holds something else.
      FaultFound: A shard cannot be written.
    """
    tasks = store.plan_tasks(parts, layout)
    claim = output_folder.claim(folder, SETTING, is_patient=True)
    with claim if devices.is_first_host else contextlib.nullcontext():
        # The others wait here until the folder exists.
        is_changed = devices.is_first_host and store.read_finished(folder) != seen
        if any(devices.agree([float(is_changed)])):
            return False
        needed_bytes = store.check_space(folder, tasks, layout)
        if devices.is_first_host:
            listed = ", ".join(f"{part.name} ({part.records:,})" for part in parts)
            print(
                f"computing features into {folder}: {listed}; {needed_bytes >> 20:,} MiB",
                file=sys.stderr,
            )
        extract = make_extract(model, layout, devices)
        batch_size = _IMAGES_AT_ONCE * devices.local_replicas
        inputs = f"{sorted(key.items())}"
        absent = absent_tasks(folder, tasks[devices.host_index :: devices.host_count], inputs)
        total = sum(task.records for task in absent)
        is_silent = not devices.is_first_host
        with Progress(0, total, title="features", unit="image", is_silent=is_silent) as progress:
            read = functools.partial(source.read, batch_size=batch_size)
            for count in write_shards(folder, absent, inputs, read, extract):
                progress.advance(count)
        devices.agree([0.0])  # all shards exist
        if devices.is_first_host:
            store.finish(folder, tasks, key, source.manifest.raw_labels)
    devices.agree([0.0])  # the manifest exists
    return True


def make_extract(model: SegmentationModel, layout: Layout, devices: Devices) -> Extract:
    """Compiles a function that computes the features of up to 16 images per local replica.

    Args:
      model: The model whose encoder computes.
      layout: The stages and the type of their stored outputs.
      devices: The devices that compute.

    Returns:
      A function: uint8 images [n, height, width, 3] -> models.features.encode, as arrays.
    """
    strategy, replicas, stages = devices.strategy, devices.local_replicas, list(layout.stages)

    def forward(images: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = model.features({IMAGE: images}, stages)
        named = dict(zip(stages, outputs, strict=True))
        return features.encode(named, layout.dtype, layout.signed)

    @tf.function(autograph=False)
    def on_replicas(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return strategy.run(forward, (images,))

    def extract(images: np.ndarray) -> dict[str, np.ndarray]:
        count, each = len(images), _IMAGES_AT_ONCE
        padded = np.zeros((replicas * each, *images.shape[1:]), images.dtype)
        padded[:count] = images

        def share(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
            index = context.replica_id_in_sync_group - devices.host_index * replicas
            return tf.constant(padded[index * each : (index + 1) * each])

        encoded = on_replicas(strategy.experimental_distribute_values_from_function(share))
        local = strategy.experimental_local_results
        return {
            key: np.concatenate([part.numpy() for part in local(values)])[:count]
            for key, values in encoded.items()
        }

    return extract


def absent_tasks(folder: str, tasks: Iterable[Task], inputs: str) -> list[Task]:
    """The shards that are not whole, or were made from something else.

    Args:
      folder: The cache.
      tasks: The wanted shards.
      inputs: Everything that decides a shard's bytes beside its task, as text.
    """

    def is_whole(task: Task) -> bool:
        shard = shard_files.read_metadata(folder, task.name)
        return (
            shard is not None
            and shard.inputs == _digest(task, inputs)
            and shard_files.is_written(shard, folder)
        )

    return [task for task in tasks if not is_whole(task)]


def write_shards(
    folder: str, tasks: Iterable[Task], inputs: str, read: ReadPart, extract: Extract
) -> Iterator[int]:
    """Computes and writes shards; yields the number of images after each batch.

    Args:
      folder: The cache, with shard_files.WORK_DIR in it.
      tasks: The shards to write, those of a part in order.
      inputs: See absent_tasks.
      read: Gives the images of a part.
      extract: See make_extract.

    Raises:
      FaultFound: The disk is full or the folder cannot be written.
    """
    by_part: dict[Part, list[Task]] = {}
    for task in tasks:
        by_part.setdefault(task.part, []).append(task)
    for part, part_tasks in by_part.items():
        wanted = np.zeros(part.records, bool)
        for task in part_tasks:
            wanted[task.first : task.end] = True
        yield from _write_part(_Writer(folder, part_tasks, inputs), read(part, wanted), extract)


def _digest(task: Task, inputs: str) -> str:
    return hashlib.sha256(f"{inputs} {task}".encode()).hexdigest()


def _write_part(writer: "_Writer", batches: tf.data.Dataset, extract: Extract) -> Iterator[int]:
    """Writes each batch in a thread while the next one is computed; yields their sizes."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        pending: list[concurrent.futures.Future] = []
        for batch in batches.as_numpy_iterator():
            encoded = extract(batch["image"])
            pending.append(thread.submit(writer.add, batch, encoded))
            if len(pending) > _MOST_PENDING:
                pending.pop(0).result()
            yield len(batch["index"])
        for future in pending:
            future.result()


class _Writer:
    """Writes the examples of some shards, in their order, one shard after the other."""

    def __init__(self, folder: str, tasks: Iterable[Task], inputs: str):
        self._folder, self._inputs = folder, inputs
        self._tasks = iter(tasks)
        self._file: BinaryIO | None = None
        self._has_failed = False

    def add(self, batch: Mapping[str, np.ndarray], encoded: Mapping[str, np.ndarray]) -> None:
        """Appends a batch of views.read_view with the features of its images.

        After a failure it appends nothing: batches that were on their way would end a shard that
        lacks examples.
        """
        if self._has_failed:
            return
        self._has_failed = True
        self._add(batch, encoded)
        self._has_failed = False

    def _add(self, batch: Mapping[str, np.ndarray], encoded: Mapping[str, np.ndarray]) -> None:
        for row, index in enumerate(batch["index"].tolist()):
            if self._file is None:
                self._begin_shard()
            record = feature_records.encode_record(
                batch["name"][row],
                batch["image_class"][row],
                batch["mask"][row],
                batch["sides"][row],
                {key: values[row] for key, values in encoded.items()},
            )
            with shard_files.reported_as_fault(SETTING, self._folder, self._task.name):
                self._file.write(self._frames.add(record))
                if index == self._task.end - 1:
                    self._end_shard()

    def _begin_shard(self) -> None:
        self._task = next(self._tasks)
        self._frames = shard_files.Frames()
        self._path = shard_files.temporary(self._folder, self._task.name)
        with shard_files.reported_as_fault(SETTING, self._folder, self._task.name):
            self._file = self._path.open("wb")

    def _end_shard(self) -> None:
        shard_files.flush(self._file)
        self._file.close()
        self._file = None
        shard = Shard(
            name=self._task.name,
            records=self._frames.records,
            bytes=self._frames.bytes,
            sha256=self._frames.sha256(),
            inputs=_digest(self._task, self._inputs),
            pixels_per_label={},
            height_sum=0,
            width_sum=0,
        )
        shard_files.finish(self._path, shard, self._folder)
