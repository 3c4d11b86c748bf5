"""Two pipelines over the same shards: one for training, one for evaluation.

Both give uint8; casts and mean subtraction happen on the device.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from petseg.augmentation import Augmentation
from petseg.data import record
from petseg.data.label_map import IGNORE
from petseg.input_pipeline import augment, examples, service, shard_reading, windows
from petseg.input_pipeline.shard_reading import Shards
from petseg.seeds import Stream, fold_seed


@dataclasses.dataclass(frozen=True)
class Original:
    """An example as it is stored.

    Attributes:
      place: in the split, from 0.
      name: unique in its data set.
      filename: of its source.
      image_class: name of the image's class (for pets the breed); '' if it has none.
      image: uint8 [height, width, 3], RGB.
      mask: uint8 [height, width], raw labels.
    """

    place: int
    name: str
    filename: str
    image_class: str
    image: np.ndarray
    mask: np.ndarray


def make_for_train(
    shards: Shards,
    *,
    class_ids: np.ndarray,
    image_size: int,
    batch_size: int,
    shuffle_records: int,
    augmentation: Augmentation,
    seed: int,
    keep_aspect: bool = False,
    start_step: int = 0,
    epochs: int | None = None,
    worker: int = 0,
    num_workers: int = 1,
    share_files: bool = True,
    service_address: str = "",
    deterministic: bool = True,
) -> tf.data.Dataset:
    """A stream of training batches, by default endless.

    The n-th batch depends on the arguments, the shards and n alone (not with a service
    or without `deterministic`). Epochs follow each other without a gap: a batch may end
    one and begin the next. Records before `start_step` are skipped before they are
    decoded, most of them before they are read.

    Args:
      shards: of the split.
      class_ids: uint8 [256], raw mask value -> class id.
      image_size: height and width of the images given, in pixels.
      batch_size: the global batch, over all workers.
      shuffle_records: size of the shuffle buffer, in serialized records.
      augmentation: how examples vary.
      seed: of order and augmentation.
      keep_aspect: fit whole images by their longer side and fill the rest with black and
        IGNORE, and let windows be near to squares; otherwise squash.
      start_step: the batch to begin with.
      epochs: how many epochs from step 0 on; None never ends. The last batch is left
        out if it is not full.
      worker: which of the workers that share each global batch this one is.
      num_workers: how many there are; they must divide batch_size.
      share_files: let each worker read only shards of its own, where that is even; its
        batches are then others than its shares of one worker's batches.
      service_address: of a tf.data service that prepares the batches, such as
        'grpc://host:5050'; each record is then read once an epoch by one of its workers,
        in an order that varies.
      deterministic: keep the order; otherwise examples come as they are ready.

    Returns:
      A dataset of dicts, of this worker's share:
        image: uint8 [batch, image_size, image_size, 3], RGB.
        mask: uint8 [batch, image_size, image_size], class ids or IGNORE.
      and what augment.sample drew, which augment.apply applies on the device.

    Raises:
      ValueError: the workers cannot share a batch evenly.
    """
    if batch_size % num_workers:
        raise ValueError(f"batches of {batch_size} do not divide by {num_workers} workers")
    shared = shard_reading.share_out([shards], worker, num_workers) if share_files else None
    own = shared[0] if shared else None
    share = batch_size // num_workers
    mine = slice(worker * share, (worker + 1) * share)

    def plan(step: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        fields = record.parse_record(serialized if own else serialized[mine])
        if service_address:  # every one of its workers counts steps of its own
            step ^= tf.strings.to_hash_bucket_fast(fields[record.SOURCE_ID][0], 1 << 62)
        drawn = _draw(augmentation, batch_size, image_size, seed, step)
        drawn = {name: rows[mine][: tf.size(fields[record.MASK])] for name, rows in drawn.items()}
        windows_drawn = drawn.pop("window", None)
        return {**examples.plan(fields, windows_drawn, keep_aspect, image_size), **drawn}

    def make_example(planned: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        letterbox = keep_aspect and augmentation.uses_whole_images
        return examples.make(planned, class_ids, image_size, letterbox)

    def mix(step: tf.Tensor, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        image, mask = augment.cutmix(
            batch["image"], batch["mask"], augmentation.cutmix_probability, seed, step
        )
        return {**batch, "image": image, "mask": mask}

    together = share if own else batch_size  # records that are read for one batch
    dataset = (
        shard_reading.read_epochs(
            own or shards,
            shuffle_records=shuffle_records,
            seed=seed,
            start_record=start_step * together,
            epochs=epochs,
            shards_at_once=1 if service_address else shard_reading.SHARDS_AT_ONCE,
            deterministic=deterministic,
        )
        .batch(together, drop_remainder=not service_address)
        .enumerate(start_step)
        .map(plan, num_parallel_calls=1)
        .unbatch()
        .map(make_example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=deterministic)
        .batch(share, drop_remainder=not service_address)
    )
    if service_address:
        dataset = service.distribute(dataset, service_address).unbatch()
        dataset = dataset.batch(share, drop_remainder=True)
    if augmentation.cutmix_probability:
        dataset = dataset.enumerate(start_step).map(mix, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.prefetch(tf.data.AUTOTUNE)


def make_for_eval(
    shard_paths: Sequence[str],
    *,
    class_ids: np.ndarray,
    image_size: int,
    batch_size: int,
    keep_aspect: bool = False,
    worker: int = 0,
    num_workers: int = 1,
) -> tf.data.Dataset:
    """Every record exactly once, in an order that never varies.

    The last batch is filled up with examples of weight 0 whose mask is all IGNORE, so
    every worker gets as many batches as the others.

    Args:
      shard_paths: TFRecord files.
      class_ids: uint8 [256], raw mask value -> class id.
      image_size: height and width of the images given, in pixels.
      batch_size: the global batch.
      keep_aspect: fit the longer side and fill the rest with black and IGNORE; otherwise
        squash.
      worker: which of the workers that share each global batch this one is.
      num_workers: how many there are; they must divide batch_size.

    Returns:
      A dataset of dicts, of this worker's share:
        image: uint8 [batch, image_size, image_size, 3], RGB.
        mask: uint8 [batch, image_size, image_size], class ids or IGNORE.
        weight: int64 [batch], 1, or 0 for an example that only fills up.
    """

    share = batch_size // num_workers

    def own_share(serialized: tf.Tensor) -> tf.Tensor:
        """This worker's records of a global batch, filled up with empty ones."""
        lacking = batch_size - tf.shape(serialized)[0]
        filled = tf.concat([serialized, tf.fill([lacking], "")], 0)
        return tf.ensure_shape(filled[worker * share : (worker + 1) * share], [share])

    def fill() -> tuple[tf.Tensor, tf.Tensor]:
        nothing = tf.fill([image_size, image_size], tf.constant(IGNORE, tf.uint8))
        return tf.zeros([image_size, image_size, 3], tf.uint8), nothing

    def weigh(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        is_record = serialized != ""
        image, mask = tf.cond(
            is_record, lambda: examples.whole(serialized, class_ids, image_size, keep_aspect), fill
        )
        return {"image": image, "mask": mask, "weight": tf.cast(is_record, tf.int64)}

    return (
        shard_reading.read(shard_paths)
        .batch(batch_size)
        .map(own_share)
        .unbatch()
        .map(weigh, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(share, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def read_examples(
    shard_paths: Sequence[str],
    places: Sequence[int],
    *,
    class_ids: np.ndarray,
    image_size: int,
    keep_aspect: bool = False,
) -> dict[str, np.ndarray]:
    """Some examples as make_for_eval gives them; the others are not decoded.

    Args:
      shard_paths: TFRecord files.
      places: of the examples in the order of make_for_eval, at least one.
      class_ids: uint8 [256], raw mask value -> class id.
      image_size: height and width of the images given, in pixels.
      keep_aspect: as of make_for_eval.

    Returns:
      A dict of arrays, in the order of `places`:
        name: object [examples], str.
        image: uint8 [examples, image_size, image_size, 3], RGB.
        mask: uint8 [examples, image_size, image_size], class ids or IGNORE.
    """
    found = {}
    for place, serialized in _records_at(shard_paths, places):
        image, mask = examples.whole(serialized, class_ids, image_size, keep_aspect)
        name = _text(record.parse_record(serialized)[record.SOURCE_ID].numpy())
        found[int(place)] = (name, image.numpy(), mask.numpy())
    names, images, masks = zip(*(found[place] for place in places), strict=True)
    return {"name": np.array(names, object), "image": np.stack(images), "mask": np.stack(masks)}


def read_originals(
    shard_paths: Sequence[str], places: Sequence[int] | None = None
) -> Iterator[Original]:
    """Examples as they are stored, in the order of make_for_eval.

    Args:
      shard_paths: TFRecord files.
      places: of those that are wanted; None for all.
    """

    def decode(place: tf.Tensor, serialized: tf.Tensor) -> tuple[tf.Tensor, ...]:
        fields = record.parse_record(serialized, (record.FILENAME, record.CLASS_TEXT))
        texts = [fields[key] for key in (record.SOURCE_ID, record.FILENAME, record.CLASS_TEXT)]
        mask = tf.squeeze(record.decode_mask(fields[record.MASK]), -1)
        return place, tf.stack(texts), record.decode_image(fields[record.IMAGE]), mask

    if places is None:
        records = shard_reading.read(shard_paths).enumerate()
    else:
        records = _records_at(shard_paths, sorted(places))
    decoded = records.map(decode, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    for place, texts, image, mask in decoded.as_numpy_iterator():
        yield Original(int(place), *map(_text, texts), image, mask)


def _records_at(shard_paths: Sequence[str], places: Sequence[int]) -> tf.data.Dataset:
    """(place, serialized record) of some examples, in the order of the shards."""
    wanted = tf.constant(list(places), tf.int64)
    return (
        shard_reading.read(shard_paths)
        .enumerate()
        .filter(lambda place, _: tf.reduce_any(place == wanted))
        .take(len(places))
    )


def _text(content: bytes) -> str:
    return content.decode(errors="replace")


def names_in_batch(
    views: Sequence[Shards], *, shuffle_records: int, seed: int, step: int, batch_size: int
) -> list[str]:
    """The names of the images in the n-th training batch, of images or of features.

    Args:
      views: of the split: its shards, and others in their place if there are.
      shuffle_records: size of the shuffle buffer, in serialized records.
      seed: of the order.
      step: n, from 0.
      batch_size: the global batch.
    """
    records = shard_reading.read_epochs(
        views[0],
        more_views=views[1:],
        shuffle_records=shuffle_records,
        seed=seed,
        start_record=step * batch_size,
    ).take(batch_size)
    names = [record.parse_name(one).numpy() for one in records]
    return [name.decode(errors="replace") for name in names]


def make_options(threads: int, ram_budget_mib: int) -> tf.data.Options:
    """How much of the machine a pipeline may take.

    Args:
      threads: of its own; 0 shares TensorFlow's, one a core.
      ram_budget_mib: what its buffers may hold when tf.data chooses their sizes; 0 leaves
        the limit to tf.data (half of the machine's memory).
    """
    options = tf.data.Options()
    if threads:
        options.threading.private_threadpool_size = threads
    if ram_budget_mib:
        options.autotune.ram_budget = ram_budget_mib << 20
    return options


def _draw(
    augmentation: Augmentation, count: int, size: int, seed: int, step: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Every random number of a global batch, as tensors with one row an example."""
    drawn = augment.sample(augmentation, count, size, seed, step)
    if not augmentation.uses_whole_images:
        drawn["window"] = windows.sample_windows(
            augmentation.min_crop_area,
            augmentation.max_crop_aspect,
            count,
            fold_seed(seed, Stream.WINDOW, step),
        )
    if augmentation.flip:
        drawn["flip"] = windows.sample_flips(count, fold_seed(seed, Stream.FLIP, step))
    return drawn
