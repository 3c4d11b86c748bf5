"""The features of a run's data set: taken from a cache, or computed into it first."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from petseg.config import Config
from petseg.data import manifest, output_folder
from petseg.data.manifest import Manifest
from petseg.errors import UserError
from petseg.feature_cache import store as feature_store
from petseg.feature_cache import views as feature_views
from petseg.feature_cache.records import Layout
from petseg.feature_cache.store import SETTING, Extract, Part, Task
from petseg.input_pipeline import shard_cache, shard_reading
from petseg.input_pipeline.shard_reading import Shards
from petseg.models import features, vgg16_skip
from petseg.models.vgg16_skip import SkipModel
from petseg.training import learner
from petseg.training.distribution import Agree, Host
from petseg.training.progress import Progress

_IMAGES_AT_ONCE = 16  # per replica, while features are computed


@dataclasses.dataclass(frozen=True)
class Features:
    """A cache that holds what a run needs.

    Attributes:
      layout: of its records.
      train: the shards of the training split, in each view.
      validation: the shards of the validation split.
    """

    layout: Layout
    train: tuple[Shards, ...]
    validation: Shards


def open_features(
    config: Config,
    data: Manifest,
    model: SkipModel,
    backbone_sha256: str,
    first_model: Callable[[], SkipModel],
    strategy: tf.distribute.Strategy,
    host: Host,
    agree: Agree,
) -> Features:
    """Opens the cache that config.data.feature_cache_dir names, and fills it where it lacks.

    On several hosts each computes some of the shards; the folder must be one that all see.

    Args:
      config: the settings.
      data: the data set's manifest.
      model: of the run.
      backbone_sha256: of the weights that the run began with.
      first_model: makes a model with these weights, if features must be computed.
      strategy: whose replicas compute.
      host: this one.
      agree: adds numbers over hosts.

    Raises:
      UserError: the cache was made of something else, or there is no room for it.
      FaultFound: it cannot be written.
    """
    folder, splits = config.data.feature_cache_dir, data.splits
    views = feature_views.views_of(config.augment, config.data.feature_crops)
    parts = feature_store.plan_parts(views, splits["train"], splits["validation"])
    layout = _layout(config, model)
    about = _describe(config, data, backbone_sha256, layout)
    missing = feature_store.lacking(folder, parts, about) if host.is_first else []
    # The first host's word counts: others may see an older state of a shared disk.
    own = [float(host.is_first and part in missing) for part in parts]
    missing = [part for part, is_missing in zip(parts, agree(own), strict=True) if is_missing]
    if missing:
        first = first_model()
        if learner.hash_backbone(first) != backbone_sha256:
            raise UserError(
                f"{SETTING}={folder} lacks features, and the weights that this run began with "
                "cannot be had again: config.model.backbone_weights gives others now"
            )
        _compute(config, data, missing, layout, about, first, strategy, host, agree)
    found = manifest.read_manifest(folder)
    wanted = [found.splits[part.name] for part in parts]
    if faults := manifest.check_shards(folder, wanted, hashes=config.data.verify_hashes):
        raise UserError(f"{SETTING}: {faults[0]}; delete {folder}, to have it made again")
    where = folder
    if config.data.cache != "none":
        where = shard_cache.cache_shards(folder, wanted, found.digest(), config.data.cache)
    *train, validation = (shard_reading.shards_in(where, split) for split in wanted)
    return Features(layout, tuple(train), validation)


def make_extract(
    model: SkipModel, layout: Layout, strategy: tf.distribute.Strategy, host: Host
) -> Extract:
    """Compiles a function: uint8 images [n, size, size, 3] -> modeling.features.encode."""
    replicas, blocks = strategy.num_replicas_in_sync // host.count, sorted(layout.pools)

    def forward(images: tf.Tensor) -> dict[str, tf.Tensor]:
        pools = model.pools({0: images}, blocks)
        return features.encode(dict(zip(blocks, pools, strict=True)), layout.stored_as)

    @tf.function
    def on_replicas(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return strategy.run(forward, (images,))

    def extract(images: np.ndarray) -> dict[str, np.ndarray]:
        count, each = len(images), _IMAGES_AT_ONCE
        padded = np.zeros((replicas * each, *images.shape[1:]), images.dtype)
        padded[:count] = images

        def share(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
            place = context.replica_id_in_sync_group - host.index * replicas
            return tf.constant(padded[place * each : (place + 1) * each])

        found = on_replicas(strategy.experimental_distribute_values_from_function(share))
        local = strategy.experimental_local_results
        return {
            key: np.concatenate([part.numpy() for part in local(values)])[:count]
            for key, values in found.items()
        }

    return extract


def _layout(config: Config, model: SkipModel) -> Layout:
    """What records are to hold; what is there already, if it is enough."""
    stages = (features.known_blocks(model.tapped, s.trained) for s in config.stages())
    needed = {block for blocks in stages for block in blocks}
    wanted = feature_store.stored_pools(config.data.feature_cache_dir) or needed
    if not needed <= wanted:
        raise UserError(
            f"{SETTING}={config.data.feature_cache_dir} holds the pools of blocks "
            f"{_listed(wanted)}, this run needs {_listed(needed)}; name another folder"
        )
    pools = {b: tuple(model.blocks[b - 1].output.shape[1:]) for b in sorted(wanted)}
    return Layout(config.data.image_size, pools, config.data.feature_dtype)


def _listed(blocks: set[int]) -> str:
    return ", ".join(map(str, sorted(blocks)))


def _describe(
    config: Config, data: Manifest, backbone_sha256: str, layout: Layout
) -> dict[str, str | int]:
    """What the features depend on."""
    augment, about = config.augment, {
        "data_set": data.digest(),
        "backbone": backbone_sha256,
        "image_size": config.data.image_size,
        "fitting": "letterboxed" if config.data.keep_aspect else "squashed",
        "preprocessing": vgg16_skip.PREPROCESSING,
        "precision": config.devices.precision,
        "stored_as": layout.stored_as,
        feature_store.POOLS: _listed(set(layout.pools)),
    }  # fmt: skip
    if config.data.feature_crops:
        about["windows"] = (
            f"area from {augment.min_crop_area:g}, aspect up to {augment.max_crop_aspect:g}, "
            f"{'mirrored or not' if augment.flip else 'not mirrored'}"
        )
    return about


def _compute(
    config: Config,
    data: Manifest,
    parts: list[Part],
    layout: Layout,
    about: dict[str, str | int],
    first_model: SkipModel,
    strategy: tf.distribute.Strategy,
    host: Host,
    agree: Agree,
) -> None:
    """Fills the cache; each host writes its shards, the first one the manifest."""
    folder = config.data.feature_cache_dir
    extract = make_extract(first_model, layout, strategy, host)
    tasks = feature_store.plan_tasks(parts, layout)
    needed = feature_store.check_room(folder, tasks, layout)
    if host.is_first:
        views = ", ".join(f"{part.name} ({part.records:,})" for part in parts)
        print(f"computing features into {folder}: {views}; {needed >> 20:,} MiB", file=sys.stderr)
    images_at_once = _IMAGES_AT_ONCE * strategy.num_replicas_in_sync // host.count
    read = functools.partial(read_part, config, data, images_at_once)
    claimed = output_folder.claim(folder, SETTING) if host.is_first else contextlib.nullcontext()
    with claimed:
        agree([0.0])  # the folder is there
        inputs = f"{sorted(about.items())}"
        own = feature_store.missing(folder, tasks[host.index :: host.count], inputs)
        with contextlib.closing(_progress(own, host)) as progress:
            done = 0
            for count in feature_store.write_shards(folder, own, inputs, read, extract):
                done += count
                progress.advance(count)
                progress.show(done, "")
        agree([0.0])  # all shards are
        if host.is_first:
            feature_store.finish(folder, tasks, about, data.raw_labels)
    agree([0.0])  # the manifest is


def _progress(tasks: list[Task], host: Host) -> Progress:
    total = sum(task.end - task.first for task in tasks)
    return Progress(0, total, not host.is_first, title="features", unit="image")


def read_part(
    config: Config, data: Manifest, batch_size: int, part: Part, wanted: np.ndarray
) -> tf.data.Dataset:
    """The images of a part at some places, bool [records]; see feature_views.read_view."""
    return feature_views.read_view(
        manifest.shard_paths(config.data.dir, data.splits[part.split]),
        part.view,
        wanted,
        augmentation=config.augment,
        image_size=config.data.image_size,
        keep_aspect=config.data.keep_aspect,
        batch_size=batch_size,
    )
