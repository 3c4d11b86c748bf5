"""The data set of a run, checked, and the batches that a host gets of it."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from petseg.config import Config, parse_class_weights
from petseg.data import manifest
from petseg.data.label_map import LabelMap, parse_label_map
from petseg.data.manifest import Manifest, Split
from petseg.errors import UserError
from petseg.feature_cache import pipeline as feature_pipeline
from petseg.feature_cache.source import Features
from petseg.input_pipeline import pipeline, service, shard_cache, shard_reading
from petseg.input_pipeline.raw_values import raw_values
from petseg.input_pipeline.shard_reading import Shards
from petseg.models.features import IMAGES
from petseg.training.distribution import Host


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set whose shards are as its manifest says.

    Attributes:
      manifest: its own.
      label_map: what its raw values mean in this run.
      train: the training split.
      validation: the validation split.
      class_weights: what a pixel of each class weighs in the cross-entropy; empty for 1.
      folder: where its shards are read: its own, or a cache.
      features: of its images, if they are cached.
    """

    manifest: Manifest
    label_map: LabelMap
    train: Split
    validation: Split
    class_weights: tuple[float, ...]
    folder: str
    features: Features | None = None

    def shards(self, split: Split) -> Shards:
        """The shards of a split."""
        return shard_reading.shards_in(self.folder, split)


def open_data_set(config: Config) -> DataSet:
    """Reads the manifest and checks that shards, hashes and labels fit.

    Raises:
      UserError: says what is wrong with the data set, the label map or the service.
    """
    # With features, these are what is read again and again.
    is_read_often = not config.data.feature_cache_dir
    directory, cached = config.data.dir, config.data.cache != "none" and is_read_often
    if config.data.service_address:
        service.check_reachable(config.data.service_address)
    found = manifest.read_manifest(directory)
    splits = {name: found.split(name, directory) for name in ("train", "validation")}
    # A cache compares what it copies.
    hashes = config.data.verify_hashes and not cached
    if faults := manifest.check_shards(directory, splits.values(), hashes=hashes):
        raise UserError(f"config.data.dir: {faults[0]}; convert the data set again")
    label_map = parse_label_map(config.data.label_map)
    for split in splits.values():
        label_map.check_covers(raw_values(directory, split), directory)
    if cached:
        directory = shard_cache.cache_shards(
            directory, list(splits.values()), found.digest(), config.data.cache
        )
    weights = class_weights(config.train.class_weights, label_map, splits["train"])
    return DataSet(found, label_map, **splits, class_weights=weights, folder=directory)


def class_weights(setting: str, label_map: LabelMap, train: Split) -> tuple[float, ...]:
    """What a pixel of each class weighs.

    Args:
      setting: 'none'; 'balanced', which gives all classes of the training split the same sum
        and its pixels 1 on average; or numbers, one a class, with commas.
      label_map: of the run.
      train: the training split.

    Raises:
      UserError: there is no such setting, or the split's pixels were never counted.
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


def training_batches(
    config: Config, data: DataSet, start_step: int, host: Host, known: Sequence[int] = IMAGES
) -> tf.data.Dataset:
    """This host's share of every global batch from a step on, without end.

    Args:
      config: the settings.
      data: of the run.
      start_step: the batch to begin with.
      host: this one.
      known: blocks whose pools the batches hold, of the cache; IMAGES for images instead.
    """
    settings = config.data
    options = pipeline.make_options(settings.input_threads, settings.ram_budget_mib)
    if tuple(known) != IMAGES:
        return feature_pipeline.make_for_train(
            data.features.train,
            data.features.layout,
            known,
            class_ids=data.label_map.class_ids(),
            batch_size=settings.batch_size,
            shuffle_records=settings.shuffle_records,
            seed=config.train.seed,
            start_step=start_step,
            worker=host.index,
            num_workers=host.count,
            share_files=settings.share_files,
            deterministic=settings.deterministic,
        ).with_options(options)
    return pipeline.make_for_train(
        data.shards(data.train),
        class_ids=data.label_map.class_ids(),
        image_size=settings.image_size,
        batch_size=settings.batch_size,
        shuffle_records=settings.shuffle_records,
        augmentation=config.augment,
        seed=config.train.seed,
        keep_aspect=settings.keep_aspect,
        start_step=start_step,
        worker=host.index,
        num_workers=host.count,
        share_files=settings.share_files,
        service_address=settings.service_address,
        deterministic=settings.deterministic,
    ).with_options(options)


def validation_batches(
    config: Config, data: DataSet, host: Host, known: Sequence[int] = IMAGES
) -> tf.data.Dataset:
    """This host's share of one pass over the validation split; see training_batches."""
    if tuple(known) != IMAGES:
        return feature_pipeline.make_for_eval(
            data.features.validation.paths,
            data.features.layout,
            known,
            class_ids=data.label_map.class_ids(),
            batch_size=config.data.batch_size,
            worker=host.index,
            num_workers=host.count,
        )
    return pipeline.make_for_eval(
        data.shards(data.validation).paths,
        class_ids=data.label_map.class_ids(),
        image_size=config.data.image_size,
        batch_size=config.data.batch_size,
        keep_aspect=config.data.keep_aspect,
        worker=host.index,
        num_workers=host.count,
    )


def validation_examples(
    config: Config, data: DataSet, places: Iterable[int]
) -> dict[str, np.ndarray]:
    """Some examples of the validation split; see pipeline.read_examples."""
    return pipeline.read_examples(
        data.shards(data.validation).paths,
        list(places),
        class_ids=data.label_map.class_ids(),
        image_size=config.data.image_size,
        keep_aspect=config.data.keep_aspect,
    )


def distribute(strategy: tf.distribute.Strategy, dataset: tf.data.Dataset) -> Iterable:
    """Spreads a host's batches over the replicas that are its own."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return strategy.experimental_distribute_dataset(dataset)
    # TensorFlow would cut it once more by hosts; here each replica takes the next slice.
    rows = dataset.element_spec["mask"].shape[0] // len(strategy.extended.worker_devices)
    return strategy.distribute_datasets_from_function(lambda _: dataset.rebatch(rows))
