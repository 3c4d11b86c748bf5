"""Two pipelines over the same shards: one for training, one for evaluation.

Both give uint8; casts and preprocessing for the encoder happen on the device.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from petseg.augmentation import Augmentation
from petseg.data import record
from petseg.data.label_map import IGNORE, IMAGE_LABELS
from petseg.image_size import ImageSize, sides_of
from petseg.input_pipeline import augment, patches, preprocessing, reading, service, windows
from petseg.input_pipeline.patches import PatchOptions
from petseg.input_pipeline.pictures import ENCODED, Pictures
from petseg.input_pipeline.reading import Shards
from petseg.input_pipeline.truth import IMAGE_CLASS
from petseg.input_pipeline.verified_shards import VerifiedShards
from petseg.losses.base import UNKNOWN_CLASS
from petseg.seeds import Stream, fold_seed


@dataclasses.dataclass(frozen=True, eq=False)
class InputOptions:
    """How batches are made, in training and in evaluation.

    Attributes:
      class_ids: uint8 [256], raw mask value -> class id; see LabelMap.class_ids.
      image_size: Of the images in a batch, in pixels.
      batch_size: The global batch: examples per step over all workers.
      keep_aspect: Fit whole images as they are and fill the rest with black and IGNORE, and
        draw windows of aspects near that of image_size; otherwise squash.
      shuffle_records: For training: size of the shuffle buffer, in serialized records.
      augmentation: For training: how examples vary.
      seed: For training: seed of order and augmentation.
      share_files: For training: each worker reads only its share of the shards, where they
        divide evenly; batches then depend on the number of workers.
      service_address: For training: a tf.data service that prepares the batches, such as
        'grpc://host:5050'; each record is then read once per epoch by one of its workers, in
        an order that varies. '' is none.
      deterministic: For training: keep the order; otherwise examples come as they are ready.
      threads: For training: threads of the pipeline alone; 0 shares TensorFlow's, one per core.
      ram_budget_mib: For training: what buffers may hold when tf.data chooses their sizes; 0
        leaves the limit to tf.data (half of the machine's memory).
      patches: Take a patch of each picture instead; image_size is then one side. Validation has
        one patch of each picture, always the same.
      has_image_class: Batches also have truth.IMAGE_CLASS, int64 [batch], the class of each whole
        image; not of decoded pictures, nor of patches.
    """

    class_ids: np.ndarray
    image_size: ImageSize
    batch_size: int
    keep_aspect: bool = False
    shuffle_records: int = 4096
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    seed: int = 0
    share_files: bool = False
    service_address: str = ""
    deterministic: bool = True
    threads: int = 0
    ram_budget_mib: int = 0
    patches: PatchOptions | None = None
    has_image_class: bool = False

    def tf_data_options(self) -> tf.data.Options:
        """How much of the machine a training pipeline may take."""
        options = tf.data.Options()
        if self.threads:
            options.threading.private_threadpool_size = self.threads
        if self.ram_budget_mib:
            options.autotune.ram_budget = self.ram_budget_mib << 20
        return options


@tf.autograph.experimental.do_not_convert
def make_for_train(
    shards: Shards,
    options: InputOptions,
    *,
    start_step: int = 0,
    epochs: int | None = None,
    worker: int = 0,
    num_workers: int = 1,
    pictures: Pictures = ENCODED,
) -> tf.data.Dataset:
    """A stream of training batches, by default endless.

    The n-th batch depends on the arguments, the shards and n alone (not with a service
    or without `deterministic`). Epochs follow each other without a gap: a batch may end
    one and begin the next. Records before `start_step` are skipped before they are
    decoded, most of them before they are read.

    Args:
      shards: The training split.
      options: See InputOptions.
      start_step: The first batch.
      epochs: Number of epochs from step 0 on; None never ends. The last batch is left out
        if it is not full.
      worker: Index of this worker among those that share each global batch.
      num_workers: Number of workers; they must divide the global batch.
      pictures: What the shards' records hold; by default a JPEG and a PNG.

    Returns:
      A dataset of dicts, this worker's share of each batch:
        image: uint8 [batch, height, width, 3], RGB.
        mask: uint8 [batch, height, width], class ids or IGNORE.
        image_labels: Of patches, uint8 [batch, classes]; see patches.make.
      and what augment.sample drew, which augment.apply applies on the device.

    Raises:
      ValueError: The workers cannot share a batch evenly.
    """
    seed, augmentation = options.seed, options.augmentation
    size = options.image_size
    split = reading.split_batches([shards], options.batch_size, worker, num_workers,
                                  options.share_files)  # fmt: skip

    def plan(step: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        fields = pictures.parse(serialized[split.read_rows])
        if options.service_address:  # every one of its workers counts its own steps
            step ^= tf.strings.to_hash_bucket_fast(fields[record.SOURCE_ID][0], 1 << 62)
        count = tf.size(fields[record.SOURCE_ID])
        drawn = {k: rows[split.batch_rows][:count] for k, rows in _draw(options, step).items()}
        if options.patches:
            return {**patches.plan(fields, drawn.pop("patch"), pictures), **drawn}
        drawn_windows = drawn.pop("window", None)
        planned = preprocessing.plan(fields, drawn_windows, options.keep_aspect, size, pictures)
        if options.has_image_class:
            planned[IMAGE_CLASS] = fields[record.CLASS_LABEL]
        return {**planned, **drawn}

    def make_example(planned: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        if options.patches:
            side, _ = sides_of(size)
            return patches.make(planned, options.class_ids, side, options.patches, pictures)
        letterbox = options.keep_aspect and augmentation.uses_whole_images
        return preprocessing.make(planned, options.class_ids, size, letterbox, pictures)

    def mix(step: tf.Tensor, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        image, mask = augment.cutmix(
            batch["image"], batch["mask"], augmentation.cutmix_probability, seed, step
        )
        return {**batch, "image": image, "mask": mask}

    verified, source = split.views[0].verified, split.views[0]
    if options.service_address:
        source = dataclasses.replace(source, verified=None)  # see verified_shards
    # The workers of a service each end with a batch that need not be full.
    is_whole = not options.service_address
    dataset = (
        reading.read_epochs(
            source,
            shuffle_records=options.shuffle_records,
            seed=seed,
            start_record=start_step * split.records_per_step,
            epochs=epochs,
            shards_at_once=1 if options.service_address else reading.SHARDS_AT_ONCE,
            deterministic=options.deterministic,
        )
        .batch(split.records_per_step, drop_remainder=is_whole)
        .enumerate(start_step)
        .map(plan, num_parallel_calls=1)
        .unbatch()
        .map(
            make_example,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=options.deterministic,
        )
        .batch(split.share, drop_remainder=is_whole)
    )
    if options.service_address:
        dataset = service.distribute(dataset, options.service_address).unbatch()
        dataset = dataset.batch(split.share, drop_remainder=True)
        if verified:
            verified.verify_meanwhile(source.paths)
            dataset = verified.gated(dataset)
    if augmentation.cutmix_probability:
        dataset = dataset.enumerate(start_step).map(mix, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options.tf_data_options())


@tf.autograph.experimental.do_not_convert
def make_for_eval(
    shard_paths: Sequence[str],
    options: InputOptions,
    *,
    worker: int = 0,
    num_workers: int = 1,
    verified: VerifiedShards | None = None,
    is_kept: bool = False,
) -> tf.data.Dataset:
    """Every record exactly once, in an order that never varies.

    The last batch is filled up with examples of weight 0 whose mask is all IGNORE, so
    every worker gets as many batches as the others.

    Args:
      shard_paths: TFRecord files.
      options: See InputOptions.
      worker: Index of this worker among those that share each global batch.
      num_workers: Number of workers; they must divide the global batch.
      verified: See reading.Shards.
      is_kept: Keep the batches in memory from the first time that the dataset is read to its end
        on; kept_bytes says what that takes.

    Returns:
      A dataset of dicts, this worker's share of each batch:
        image: uint8 [batch, height, width, 3], RGB.
        mask: uint8 [batch, height, width], class ids or IGNORE.
        weight: int64 [batch], 1, or 0 for an example that only fills up.
        image_labels: Of patches, uint8 [batch, classes]; see patches.make.
      and with options.has_image_class truth.IMAGE_CLASS, int64 [batch], UNKNOWN_CLASS for such an
      example.
    """
    sides, share = sides_of(options.image_size), options.batch_size // num_workers

    def take_share(batch: tf.Tensor, serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """This worker's records of a global batch, filled up with empty ones; their positions."""
        lacking = options.batch_size - tf.shape(serialized)[0]
        filled = tf.concat([serialized, tf.fill([lacking], "")], 0)
        mine = slice(worker * share, (worker + 1) * share)
        positions = batch * options.batch_size + tf.range(options.batch_size, dtype=tf.int64)
        return positions[mine], tf.ensure_shape(filled[mine], [share])

    def fill() -> dict[str, tf.Tensor]:
        ignored = tf.constant(IGNORE, tf.uint8)
        empty = {"image": tf.zeros([*sides, 3], tf.uint8), "mask": tf.fill(sides, ignored)}
        return {**empty, IMAGE_LABELS: tf.fill([2], ignored)} if options.patches else empty

    def weigh(position: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        is_record = serialized != ""
        example = tf.cond(is_record, lambda: eval_example(serialized, position, options), fill)
        if options.has_image_class:
            example[IMAGE_CLASS] = tf.cond(
                is_record,
                lambda: record.parse_record(serialized)[record.CLASS_LABEL],
                lambda: tf.constant(UNKNOWN_CLASS, tf.int64),
            )
        return {**example, "weight": tf.cast(is_record, tf.int64)}

    dataset = (
        reading.read(shard_paths, verified=verified)
        .batch(options.batch_size)
        .enumerate()
        .map(take_share)
        .unbatch()
        .map(weigh, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(share, drop_remainder=True)
    )
    if is_kept:
        dataset = dataset.cache()
    return dataset.prefetch(tf.data.AUTOTUNE)


def eval_example(
    serialized: tf.Tensor, position: tf.Tensor, options: InputOptions
) -> dict[str, tf.Tensor]:
    """One example of make_for_eval, without its weight: a whole image, or a patch of it.

    Args:
      serialized: string [].
      position: int64 [], of the record in its split, from 0.
      options: See InputOptions.
    """
    if options.patches:
        side, _ = sides_of(options.image_size)
        return patches.fixed(serialized, position, options.class_ids, side, options.patches)
    size, keep_aspect = options.image_size, options.keep_aspect
    image, mask = preprocessing.whole(serialized, options.class_ids, size, keep_aspect)
    return {"image": image, "mask": mask}


def kept_bytes(records: int, image_size: ImageSize) -> int:
    """Memory, in bytes, of so many examples of make_for_eval: an image and a mask each."""
    height, width = sides_of(image_size)
    return records * height * width * (3 + 1)


def _draw(options: InputOptions, step: tf.Tensor) -> dict[str, tf.Tensor]:
    """Every random number of a global batch, as tensors with one row per example."""
    augmentation, count, seed = options.augmentation, options.batch_size, options.seed
    drawn = augment.sample(augmentation, count, options.image_size, seed, step)
    if options.patches:
        drawn["patch"] = patches.sample(count, fold_seed(seed, Stream.PATCH, step))
    elif not augmentation.uses_whole_images:
        drawn["window"] = windows.sample_windows(
            augmentation.min_crop_area,
            augmentation.max_crop_aspect,
            count,
            fold_seed(seed, Stream.WINDOW, step),
        )
    if augmentation.flip:
        drawn["flip"] = windows.sample_flips(count, fold_seed(seed, Stream.FLIP, step))
    return drawn
