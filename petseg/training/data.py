"""The data set of a run, checked, and the source of its batches."""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from petseg import free_memory
from petseg.config import Config
from petseg.config_rules import data_dir, parse_class_weights
from petseg.data import image_classes, manifest, shard_hashes
from petseg.data.label_map import BACKGROUNDS, LabelMap, choose_label_map, foreground
from petseg.data.manifest import Manifest, Split
from petseg.devices import Devices
from petseg.errors import UserError
from petseg.input_pipeline import (
    decoded_store,
    pictures,
    pipeline,
    service,
    shard_cache,
    stored_examples,
)
from petseg.input_pipeline.decoded_store import DecodedSplit
from petseg.input_pipeline.image_batches import ImageBatches
from petseg.input_pipeline.patches import PatchOptions, object_class
from petseg.input_pipeline.pipeline import InputOptions
from petseg.input_pipeline.raw_values import raw_values, raw_values_of_shard
from petseg.input_pipeline.reading import Shards, shards_in
from petseg.input_pipeline.truth import TruthOptions
from petseg.input_pipeline.verified_shards import VerifiedShards
from petseg.metrics.measure import value_names

# A larger share of the free memory is not taken for the validation split.
_MOST_KEPT = 0.25
_REMEDY = "convert the data set again"


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set whose shards have the sizes that its manifest gives.

    Attributes:
      manifest: Its manifest.
      label_map: The meaning of its raw labels in this run.
      train: The training split.
      validation: The validation split.
      class_weights: Weight of a pixel of each class in the cross-entropy; () for 1.
      folder: Where its shards are read from: its own folder, or a cache.
      options: How it is read.
      verified: Checks each shard before it is first read; None if there is nothing to check.
      decoded: The training split in a store of decoded pictures; None if there is none.
      keeps_validation: Keep the validation split in memory at the model's size, once it was read.
      image_classes: Names of the classes of whole images, if the run needs them; otherwise ().
      truth: What is made of the masks.
    """

    manifest: Manifest
    label_map: LabelMap
    train: Split
    validation: Split
    class_weights: tuple[float, ...]
    folder: str
    options: InputOptions
    verified: VerifiedShards | None
    decoded: DecodedSplit | None = None
    keeps_validation: bool = False
    image_classes: tuple[str, ...] = ()
    truth: TruthOptions = dataclasses.field(default_factory=TruthOptions)

    def shards(self, split: Split) -> Shards:
        """The shards of a split."""
        return shards_in(self.folder, split, self.verified)

    def verify(self) -> None:
        """Checks all shards now, for callers in whose hands errors of TensorFlow's would end.

        Raises:
          UserError: One differs from the manifest, or has a mask that must not be used.
        """
        if self.verified:
            for split in (self.train, self.validation):
                self.verified.verify(self.shards(split).paths, is_awaited=True)
        if self.decoded and (verified := self.decoded.entries.verified):
            verified.verify(self.decoded.entries.paths, is_awaited=True)

    def image_batches(self, devices: Devices) -> ImageBatches:
        """Batches of images for this host."""
        batches = ImageBatches(
            self.shards(self.train),
            self.shards(self.validation),
            self.options,
            devices.host_index,
            devices.host_count,
            pictures.of_store(self.manifest.store),
        )
        if not self.decoded:
            return batches
        return dataclasses.replace(
            batches,
            train_shards=self.decoded.entries,
            train_pictures=self.decoded.pictures,
            keeps_validation=self.keeps_validation,
        )

    def validation_examples(self, indices: Iterable[int]) -> dict[str, np.ndarray]:
        """Some examples of the validation split; see stored_examples.read_examples."""
        paths = self.shards(self.validation).paths
        return stored_examples.read_examples(paths, list(indices), self.options, self.verified)


def check_best_metric(name: str, label_map: LabelMap) -> None:
    """Raises UserError if an evaluation by this label map gives no metric of this name."""
    choices = value_names(label_map.names)
    if name not in choices:
        raise UserError(f"config.train.best_metric={name!r} must be one of {', '.join(choices)}")


def open_data_set(config: Config) -> DataSet:
    """Reads the manifest and checks that the shards' sizes and the labels agree with it.

    Shards are not read here, but for a feature cache: its masks are decoded here if they never
    were. See verified_shards.

    Raises:
      UserError: Says what is wrong with the data set, the label map or the service.
    """
    # With a feature cache, its shards are what is read again and again.
    is_read_often = not config.data.feature_cache_dir
    directory, is_cached = data_dir(config), config.data.cache != "none" and is_read_often
    if config.data.service_address:
        service.check_reachable(config.data.service_address)
    data = manifest.read_manifest(directory)
    label_map = choose_label_map(config.data.label_map, data)
    check_best_metric(config.train.best_metric, label_map)
    splits = {name: data.split(name, directory) for name in ("train", "validation")}
    if faults := shard_hashes.check_shards(directory, splits.values(), hashes=False):
        raise UserError(f"config.data.dir: {faults[0]}; {_REMEDY}")
    check_masks = _check_of_masks(directory, splits, label_map, is_read_often)
    verified = VerifiedShards(
        directory,
        splits.values(),
        "config.data.dir",
        _REMEDY,
        hashes=config.data.verify_hashes,
        check_masks=check_masks,
    )
    decoded, keeps_validation = None, False
    verified_at_all = config.data.verify_hashes or check_masks
    if is_cached and config.data.cache_decoded:
        decoded = decoded_store.open_store(
            shards_in(directory, splits["train"], verified if verified_at_all else None),
            splits["train"],
            data.digest(),
            config.data.cache,
            config.data.cache_short_side,
        )
        kept_bytes = pipeline.kept_bytes(splits["validation"].records, config.data.image_size)
        keeps_validation = kept_bytes < _MOST_KEPT * free_memory.available_bytes()
    elif is_cached:
        where, source = config.data.cache, directory
        directory = shard_cache.cache_shards(source, splits.values(), data.digest(), where)
        verified = shard_cache.verified_copies(
            source,
            splits.values(),
            directory,
            where,
            hashes=config.data.verify_hashes,
            check_masks=check_masks,
        )
    weights = class_weights(config.train.class_weights, label_map, splits["train"])
    has_image_class = needs_image_class(config)
    names = config.data.image_classes
    if has_image_class and not names:
        names = image_classes.read_class_names(config.data.dir)
    return DataSet(
        manifest=data,
        label_map=label_map,
        **splits,
        class_weights=weights,
        folder=directory,
        options=input_options(config, label_map),
        verified=verified if verified_at_all else None,
        decoded=decoded,
        keeps_validation=keeps_validation,
        image_classes=names if has_image_class else (),
        truth=truth_options(config, data, label_map, names),
    )


def needs_image_class(config: Config) -> bool:
    """Whether a run reads the classes of whole images."""
    return bool(config.data.masks_of) or config.model.class_masks != "none"


def truth_options(
    config: Config, data: Manifest, label_map: LabelMap, names: Sequence[str]
) -> TruthOptions:
    """What settings make of a data set's masks.

    Args:
      config: The settings.
      data: The data set's manifest.
      label_map: Of the run.
      names: Of the images' classes, where they are needed.

    Raises:
      UserError: config.data.masks_of chooses no class, or all; or boxes cannot stand for masks by
        this label map.
    """
    masks_of, fills_box = config.data.masks_of, config.data.without_mask == "box"
    has_mask: tuple[bool, ...] = ()
    if masks_of:
        source = str(data.source.get("source", ""))
        has_mask = image_classes.choose_classes(masks_of, names, source)
    if not fills_box and config.model.class_masks == "none":
        return TruthOptions(has_mask=has_mask)
    objects = tuple(foreground(label_map.names))
    backgrounds = [i for i, name in enumerate(label_map.names) if name.lower() in BACKGROUNDS]
    if not objects or (fills_box and (len(objects) > 1 or not backgrounds)):
        wanted = "one class beside 'background'" if fills_box else "a class beside 'background'"
        setting = "data.without_mask=box" if fills_box else "model.class_masks"
        raise UserError(
            f"config.{setting}: boxes need a label map with {wanted}, this one has "
            f"{', '.join(label_map.names)}; set config.data.label_map (for pets border_is_pet)"
        )
    return TruthOptions(objects, has_mask, fills_box, backgrounds[0] if backgrounds else 0)


def _check_of_masks(
    directory: str, splits: dict[str, Split], label_map: LabelMap, is_lazy: bool
) -> Callable[[str], None] | None:
    """Checks counted values at once; gives the check of shards whose masks were never decoded.

    Args:
      directory: The data set.
      splits: Those that the run reads.
      label_map: Of the run.
      is_lazy: Otherwise everything is checked at once.

    Raises:
      UserError: The label map lacks a value.
    """
    for split in splits.values():
        values = split.pixels_per_label if is_lazy else raw_values(directory, split)
        label_map.check_covers(values, directory)
    shards = [shard for split in splits.values() for shard in split.shards]
    uncounted = sum(shard.records for shard in shards if not shard.pixels_per_label)
    if not (uncounted and is_lazy):
        return None
    print(
        f"{directory}: {uncounted:,} masks were never decoded (--validate=header); those of a "
        "shard are when it is first read",
        file=sys.stderr,
    )
    return lambda path: label_map.check_covers(raw_values_of_shard(path), path)


def input_options(config: Config, label_map: LabelMap) -> InputOptions:
    """How settings want a data set to be read."""
    data = config.data
    return InputOptions(
        class_ids=label_map.class_ids(),
        image_size=data.image_size,
        batch_size=data.batch_size,
        shuffle_records=data.shuffle_records,
        augmentation=config.augment,
        seed=config.train.seed,
        keep_aspect=data.keep_aspect,
        share_files=data.share_files,
        service_address=data.service_address,
        deterministic=data.deterministic,
        threads=data.input_threads,
        ram_budget_mib=data.ram_budget_mib,
        patches=PatchOptions(config.patches, object_class(label_map))
        if config.patches.enabled
        else None,
        has_image_class=needs_image_class(config),
    )


def class_weights(setting: str, label_map: LabelMap, train: Split) -> tuple[float, ...]:
    """Weights of the pixels of each class.

    Args:
      setting: 'none'; 'balanced', which gives all classes of the training split the same sum,
        and its pixels a mean weight of 1; or numbers, one for each class, with commas.
      label_map: Of the run.
      train: The training split.

    Raises:
      UserError: There is no such setting, or the split's pixels were never counted.
    """
    field, names = f"config.train.class_weights={setting}", label_map.names
    if setting == "none":
        return ()
    if setting != "balanced":
        weights = parse_class_weights(setting)
        if len(weights) != len(names):
            raise UserError(f"{field} must hold a number for each of {', '.join(names)}")
        return weights
    raw = train.pixels_per_label
    counts = [sum(raw.get(v, 0) for v in values) for values in label_map.raw_values]
    if not any(counts):
        raise UserError(
            f"{field}: no mask of {train.shards[0].name} was counted; convert the data set again "
            "without --validate=header, or give the weights"
        )
    present = sum(count > 0 for count in counts)
    return tuple(sum(counts) / (present * count) if count else 0.0 for count in counts)
