"""Opens the feature cache of a run, and fills it first where it lacks something."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence

from petseg.augmentation import Augmentation
from petseg.data import shard_hashes
from petseg.data.manifest import Manifest
from petseg.devices import Devices
from petseg.errors import UserError
from petseg.feature_cache import fill, store
from petseg.feature_cache import views as feature_views
from petseg.feature_cache.fill import Source
from petseg.feature_cache.records import Layout
from petseg.feature_cache.store import SETTING, Key, Part
from petseg.feature_cache.views import ViewOptions
from petseg.image_size import ImageSize, readable
from petseg.input_pipeline import reading, shard_cache
from petseg.input_pipeline.reading import Shards
from petseg.input_pipeline.verified_shards import VerifiedShards
from petseg.models.encoders.base import IMAGE, Encoder
from petseg.models.segmentation_model import SegmentationModel


@dataclasses.dataclass(frozen=True)
class FeatureCacheOptions:
    """What a run wants of a feature cache.

    Attributes:
      folder: The cache's folder; it is made where it does not exist.
      dtype: How features are stored: 'uint8' (with a scale for each image's channels, and
        a least value where features may be negative) or 'float16'.
      crops: Number of fixed windows of each training image.
      augmentation: Whether there are mirror images, and how windows are drawn.
      image_size: Of the images, in pixels.
      keep_aspect: See input_pipeline.pipeline.InputOptions.
      precision: Of the encoder's arithmetic: 'float32', 'mixed_bfloat16' or 'mixed_float16'.
      verify_hashes: Compare a shard's SHA-256 with the manifest before it is first read.
      cache: 'none', or where shards are copied to: 'memory' or a local folder; see
        shard_cache.cache_shards.
      needs_image_class: Whether the classes of whole images are read, too.
    """

    folder: str
    dtype: str
    crops: int
    augmentation: Augmentation
    image_size: ImageSize
    keep_aspect: bool = False
    precision: str = "float32"
    verify_hashes: bool = True
    cache: str = "none"
    needs_image_class: bool = False


@dataclasses.dataclass(frozen=True)
class FeatureCache:
    """A cache that holds what a run needs.

    Attributes:
      layout: Layout of its records.
      train: The shards of the training split, in each view.
      validation: The shards of the validation split.
    """

    layout: Layout
    train: tuple[Shards, ...]
    validation: Shards


def open_feature_cache(
    options: FeatureCacheOptions,
    data_dir: str,
    data: Manifest,
    model: SegmentationModel,
    trainables: Sequence[str],
    encoder_sha256: str,
    make_initial_model: Callable[[], SegmentationModel],
    devices: Devices,
    verified: VerifiedShards | None = None,
) -> FeatureCache:
    """Opens a cache, and computes the features that it lacks.

    On several hosts each computes its share of the shards; all must have access to the folder.
    While another command fills the cache, this one waits, and uses what that has computed.

    Args:
      options: See FeatureCacheOptions.
      data_dir: The data set.
      data: Its manifest.
      model: The run's model.
      trainables: What the stages of the run train; see SegmentationModel.cacheable_stages.
      encoder_sha256: hash_encoder of the weights that the run began with.
      make_initial_model: Makes a model with these weights; called if features must be computed.
      devices: The devices that compute.
      verified: Of the data set's shards; see reading.Shards.

    Raises:
      UserError: A stage of the run cannot be trained on features, the cache was filled with
        something else or is damaged, or there is not enough space.
      FaultFound: A shard cannot be written.
    """
    folder, encoder = options.folder, model.encoder
    finished = store.read_finished(folder)
    key = _make_key(options, data, encoder, encoder_sha256)
    if finished:
        store.check_key(folder, finished.source, key)
    if not finished or store.IMAGE_CLASSES in finished.source:
        key[store.IMAGE_CLASSES] = "stored"
    elif options.needs_image_class:
        raise UserError(
            f"{SETTING}={folder} was filled before the classes of images were stored, which "
            "config.data.masks_of and config.model.class_masks need; name another folder, or "
            "delete it"
        )
    stages = _choose_stages(folder, model, trainables, finished)
    key = {**key, store.STAGES: store.join_stages(stages)}
    shapes = {stage: model.output_shape(stage) for stage in stages}
    layout = Layout(options.image_size, shapes, options.dtype, _signed_stages(encoder, stages))
    views = feature_views.views_of(options.augmentation, options.crops)
    parts = store.plan_parts(views, data.splits["train"], data.splits["validation"])
    if absent := _agree_on_absent(parts, finished, devices):
        initial = make_initial_model()
        if hash_encoder(initial) != encoder_sha256:
            raise UserError(
                f"{SETTING}={folder} lacks features, and config.model.encoder_weights, or "
                "start_from, no longer gives the weights that this run began with; restore that "
                "file or folder, or start a new run"
            )
        source = Source(
            data_dir,
            data,
            ViewOptions(options.augmentation, options.image_size, options.keep_aspect),
            verified,
        )
        if not fill.fill_cache(folder, absent, layout, key, source, initial, devices, finished):
            return open_feature_cache(
                options,
                data_dir,
                data,
                model,
                trainables,
                encoder_sha256,
                make_initial_model,
                devices,
                verified,
            )
    train, validation = _open_shards(options, parts)
    return FeatureCache(layout, train, validation)


def hash_encoder(model: SegmentationModel) -> str:
    """SHA-256 of the encoder's weights."""
    digest = hashlib.sha256()
    for variable in model.encoder.variables:
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()


def _make_key(
    options: FeatureCacheOptions, data: Manifest, encoder: Encoder, encoder_sha256: str
) -> Key:
    """What features depend on, apart from which stages are stored."""
    augmentation, key = options.augmentation, {
        "encoder": encoder.name,
        "data_set": data.digest(),
        "image_size": readable(options.image_size),
        "fitting": "letterboxed" if options.keep_aspect else "squashed",
        "weights": encoder_sha256,
        "preprocessing": encoder.preprocessing,
        "output_stride": max(level.stride for level in encoder.levels.values()),
        "precision": options.precision,
        "stored_as": options.dtype,
    }  # fmt: skip
    if options.crops:
        key["windows"] = (
            f"area from {augmentation.min_crop_area:g}, aspect up to "
            f"{augmentation.max_crop_aspect:g}, "
            f"{'mirrored or not' if augmentation.flip else 'not mirrored'}"
        )
    return key


def _choose_stages(
    folder: str, model: SegmentationModel, trainables: Sequence[str], finished: Manifest | None
) -> tuple[str, ...]:
    """The stages whose outputs records hold: those of a finished cache if they are enough."""
    needed: set[str] = set()
    for trainable in trainables:
        cacheable = model.cacheable_stages(trainable)
        if not cacheable:
            raise UserError(
                f"{SETTING}: training '{trainable}' moves the encoder's first stage, so no "
                "feature can be cached; train a later stage, or leave the cache out"
            )
        needed.update(cacheable)
    ordered = tuple(stage for stage in (IMAGE, *model.encoder.stages) if stage in needed)
    if not finished:
        return ordered
    stored = store.split_stages(finished.source)
    if not needed <= set(stored):
        raise UserError(
            f"{SETTING}={folder} holds stages {store.join_stages(stored)}, this run needs "
            f"{store.join_stages(ordered)}; name another folder, or delete it"
        )
    return stored


def _signed_stages(encoder: Encoder, stages: Sequence[str]) -> frozenset[str]:
    """Those of some stages whose outputs may be negative."""
    non_negative = {level.stage for level in encoder.levels.values() if level.non_negative}
    return frozenset(stages) - non_negative - {IMAGE}


def _agree_on_absent(
    parts: Sequence[Part], finished: Manifest | None, devices: Devices
) -> list[Part]:
    """The parts that a cache does not hold yet.

    The first host decides: others may get an older state of a shared disk.
    """
    held = finished.splits if finished else {}
    flags = [float(devices.is_first_host and part.name not in held) for part in parts]
    return [part for part, flag in zip(parts, devices.agree(flags), strict=True) if flag]


def _open_shards(
    options: FeatureCacheOptions, parts: Sequence[Part]
) -> tuple[tuple[Shards, ...], Shards]:
    """The shards of the training split in each view, and of the validation split."""
    folder, finished = options.folder, store.read_finished(options.folder)
    splits = [finished.splits[part.name] for part in parts]
    for part, split in zip(parts, splits, strict=True):
        if split.records != part.records:
            raise UserError(
                f"{SETTING}: {folder} holds {split.records:,} records of '{part.name}', not "
                f"{part.records:,} as the data set; delete {folder}, to have it made again"
            )
    remedy = f"delete {folder}, to have it made again"
    if faults := shard_hashes.check_shards(folder, splits, hashes=False):
        raise UserError(f"{SETTING}: {faults[0]}; {remedy}")
    if options.cache != "none":
        cached = shard_cache.cache_shards(folder, splits, finished.digest(), options.cache)
        verified = shard_cache.verified_copies(folder, splits, cached, options.cache)
        folder = cached
    else:
        verified = VerifiedShards(folder, splits, SETTING, remedy)
    if not options.verify_hashes:
        verified = None
    *train, validation = (reading.shards_in(folder, split, verified) for split in splits)
    return tuple(train), validation
