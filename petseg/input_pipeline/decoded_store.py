"""Every picture of a split, decoded once, in memory or on a local disk.

Training then reads pixels instead of JPEGs. A store is a file of pixels, mapped into memory, and
for each shard of the data set a shard of entries, as many and in the same order: so batches
follow each other as they do without a store. decoded_pictures says what lies in both.
"""

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterator

import google_crc32c
import numpy as np
import tensorflow as tf

from petseg import free_memory, locks
from petseg.data import record, tfrecord
from petseg.data.manifest import Split
from petseg.errors import FaultFound, UserError
from petseg.input_pipeline import decoded_pictures, reading, resizing
from petseg.input_pipeline.decoded_pictures import DecodedPictures
from petseg.input_pipeline.reading import Shards
from petseg.input_pipeline.verified_shards import VerifiedShards, faults_in_one_line
from petseg.progress import Progress

MEMORY = "memory"
_SETTING = "config.data.cache"
_VERSION = 1
_PIXELS, _LOCK = "pixels", "lock"
_MEMORY_ROOT = "ram://petseg-decoded"  # TensorFlow's file system in this process's memory
SHARE_OF_FREE_MEMORY = 0.8  # shuffling and training need some too
_SILENT_S = 1.0
_SIZES_AT_ONCE = 256


@dataclasses.dataclass(frozen=True)
class DecodedSplit:
    """A split in a store.

    Attributes:
      entries: Its shards, of entries.
      pictures: Reads their pixels.
    """

    entries: Shards
    pictures: DecodedPictures


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Where the examples of one shard lie in a store, [records] each.

    Attributes:
      heights: Rows of the stored pictures.
      widths: Their columns.
      offsets: Their first bytes.
      end: The first byte behind the shard.
    """

    heights: np.ndarray
    widths: np.ndarray
    offsets: np.ndarray
    end: int


def open_store(
    shards: Shards, split: Split, digest: str, cache: str, short_side: int = 0
) -> DecodedSplit:
    """Opens a store of a split, and decodes what it lacks.

    A store on a disk is kept for later runs, and continued if it was interrupted. Commands that
    share a folder fill it one after the other.

    Args:
      shards: Of the data set; each is checked before it is decoded.
      split: Their metadata.
      digest: Digest of the data set's manifest.
      cache: MEMORY, or a folder.
      short_side: Pictures whose shorter side is longer are brought to this, in pixels; 0 keeps
        all as they are.

    Raises:
      UserError: There is not enough space, or the folder cannot be written.
      FaultFound: A picture cannot be decoded, or is not of the size that its record gives.
    """
    text = f"{_VERSION} {digest} {short_side} {[shard.sha256 for shard in split.shards]}"
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    try:
        with faults_in_one_line():
            if cache == MEMORY:
                return _open_in_memory(f"{_MEMORY_ROOT}/{key}", shards, split, short_side)
            folder = f"{cache}/{key}"
            os.makedirs(folder, exist_ok=True)
            is_busy = f"{_SETTING}={cache}: another command fills {folder}"
            with locks.only_writer(f"{folder}/{_LOCK}", _SILENT_S, is_busy, is_patient=True):
                return _open_on_disk(folder, shards, split, cache, short_side)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "message", None) or str(error)
        raise UserError(f"{_SETTING}={cache}: {reason}") from error


def _open_in_memory(folder: str, shards: Shards, split: Split, short_side: int) -> DecodedSplit:
    plans = _plan_all(shards, short_side)
    _check_space(plans[-1].end, int(SHARE_OF_FREE_MEMORY * free_memory.available_bytes()), MEMORY)
    tf.io.gfile.makedirs(folder)
    descriptor = os.memfd_create(_PIXELS)
    try:
        path = f"/proc/self/fd/{descriptor}"
        _fill(folder, path, shards, split, plans)
        pixels = _map(path, plans[-1].end)
    finally:
        os.close(descriptor)
    return DecodedSplit(_entries(folder, split), DecodedPictures(pixels))


def _open_on_disk(
    folder: str, shards: Shards, split: Split, cache: str, short_side: int
) -> DecodedSplit:
    entries, path = _entries(folder, split), f"{folder}/{_PIXELS}"
    if not all(map(os.path.exists, (*entries.paths, path))):
        plans = _plan_all(shards, short_side)
        held = os.stat(path).st_blocks * 512 if os.path.exists(path) else 0
        _check_space(plans[-1].end - held, shutil.disk_usage(folder).free, cache)
        _fill(folder, path, shards, split, plans)
    pixels = np.memmap(path, np.uint8, "r")
    # What the manifest says of the shards does not hold for their entries.
    unknown = Split(tuple(dataclasses.replace(s, pixels_per_label={}) for s in split.shards))
    verified = VerifiedShards(
        folder,
        [unknown],
        _SETTING,
        "delete it",
        hashes=False,
        check_masks=lambda entry_path: _check_pixels(entry_path, pixels),
    )
    entries = dataclasses.replace(entries, verified=verified)
    return DecodedSplit(entries, DecodedPictures(_map(path, pixels.size)))


def _entries(folder: str, split: Split) -> Shards:
    return reading.shards_in(folder, split)


def _map(path: str, size: int) -> tf.Tensor:
    """A file's bytes, uint8 [size], which are read when they are needed."""

    # In a graph of its own: called eagerly, the operation is cached by the path, and would give
    # the bytes of whatever file had it first, which would never be given back.
    @tf.function(autograph=False)
    def mapped() -> tf.Tensor:
        with tf.device("CPU:0"):
            return tf.raw_ops.ImmutableConst(dtype=tf.uint8, shape=[size], memory_region_name=path)

    return mapped.get_concrete_function()()


def _check_space(needed_bytes: int, free_bytes: int, cache: str) -> None:
    if needed_bytes > free_bytes:
        other = "a folder on a local disk" if cache == MEMORY else "another folder"
        raise UserError(
            f"{_SETTING}={cache}: decoded, the training images take {needed_bytes >> 20:,} MiB, "
            f"{free_bytes >> 20:,} MiB are free; take {other}, or smaller images "
            "(config.data.cache_short_side)"
        )


def _plan_all(shards: Shards, short_side: int) -> list[_Plan]:
    """Plans where all examples lie, from the sizes that their records give."""
    plans, end = [], 0
    sizes = reading.read(shards.paths, shards_at_once=1, verified=shards.verified)
    sizes = sizes.batch(_SIZES_AT_ONCE).map(_sizes).unbatch().as_numpy_iterator()
    with Progress(0, shards.num_records, title="sizes of images", unit="image") as progress:
        for records in shards.records:
            sides = np.array([next(sizes) for _ in range(records)], np.int64)
            heights, widths = stored_sides(sides[:, 0], sides[:, 1], short_side)
            taken = decoded_pictures.example_bytes(heights, widths)
            offsets = end + np.cumsum(taken) - taken
            end += int(taken.sum())
            plans.append(_Plan(heights, widths, offsets, end))
            progress.advance(records)
    return plans


@tf.autograph.experimental.do_not_convert
def _sizes(serialized: tf.Tensor) -> tf.Tensor:
    fields = record.parse_record(serialized)
    return tf.stack([fields[record.HEIGHT], fields[record.WIDTH]], 1)


def stored_sides(
    heights: np.ndarray, widths: np.ndarray, short_side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Heights and widths, int64 [n], of pictures in a store; rounded to the nearest pixel."""
    short = np.minimum(heights, widths)
    is_kept = (short <= short_side) | (short_side == 0)

    def scaled(sides: np.ndarray) -> np.ndarray:
        return np.where(is_kept, sides, (2 * sides * short_side + short) // (2 * short))

    return scaled(heights), scaled(widths)


def _fill(folder: str, path: str, shards: Shards, split: Split, plans: list[_Plan]) -> None:
    """Decodes the shards whose entries are not there; all of them into a new file."""
    total = plans[-1].end
    with open(path, "ab") as file:
        is_new = file.tell() == 0  # entries of before are those of another one
        file.truncate(total)
    pixels = np.memmap(path, np.uint8, "r+", shape=(total,))
    with Progress(0, shards.num_records, title="decode once", unit="image") as progress:
        for shard, source, plan in zip(split.shards, shards.paths, plans, strict=True):
            target = f"{folder}/{shard.name}"
            if is_new or not tf.io.gfile.exists(target):
                entries = list(_decode_shard(source, plan, pixels, progress))
                pixels.flush()
                with tf.io.gfile.GFile(f"{target}.tmp", "wb") as file:
                    file.write(b"".join(map(tfrecord.frame, entries)))
                tf.io.gfile.rename(f"{target}.tmp", target, overwrite=True)
            else:
                progress.advance(shard.records)


def _decode_shard(
    source: str, plan: _Plan, pixels: np.ndarray, progress: Progress
) -> Iterator[bytes]:
    """Writes the pixels of a shard; yields its entries."""
    sides = tf.data.Dataset.from_tensor_slices(np.stack([plan.heights, plan.widths], 1))
    decoded = tf.data.Dataset.zip(tf.data.TFRecordDataset(source), sides).map(
        _decode, num_parallel_calls=tf.data.AUTOTUNE
    )
    rows = zip(plan.offsets, plan.heights, plan.widths, strict=True)
    try:
        for (offset, height, width), (name, content) in zip(
            rows, decoded.prefetch(tf.data.AUTOTUNE).as_numpy_iterator(), strict=True
        ):
            pixels[offset : offset + content.size] = content
            crc = google_crc32c.value(content.tobytes())
            yield decoded_pictures.encode_entry(name, height, width, offset, crc)
            progress.advance()
    except tf.errors.InvalidArgumentError as error:
        raise FaultFound(
            f"{source}: a picture cannot be decoded, or is not of the size that its record gives; "
            "petseg-verify names it"
        ) from error


@tf.autograph.experimental.do_not_convert
def _decode(serialized: tf.Tensor, sides: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A record's name, and its pictures as they lie in a store, of the given sides, int64 [2]."""
    fields = record.parse_record(serialized)
    image = record.decode_image_as_windows(fields[record.IMAGE])
    mask = tf.squeeze(record.decode_mask(fields[record.MASK]), -1)
    given = tf.stack([fields[record.HEIGHT], fields[record.WIDTH]])
    sides, given = tf.cast(sides, tf.int32), tf.cast(given, tf.int32)
    for picture in (image, mask):  # others would not fit where they are planned
        tf.debugging.assert_equal(tf.shape(picture)[:2], given)

    def resized() -> tuple[tf.Tensor, tf.Tensor]:
        smaller = tf.image.resize(image, sides, antialias=True)
        rows = resizing.nearest(0, tf.shape(mask)[0], sides[0])
        columns = resizing.nearest(0, tf.shape(mask)[1], sides[1])
        return tf.saturate_cast(tf.round(smaller), tf.uint8), resizing.sample(mask, rows, columns)

    is_kept = tf.reduce_all(given == sides)
    image, mask = tf.cond(is_kept, lambda: (image, mask), resized)
    return fields[record.SOURCE_ID], decoded_pictures.lay_out(image, mask)


def _check_pixels(path: str, pixels: np.ndarray) -> None:
    """Raises FaultFound if pixels are not those that were decoded."""
    with tf.io.gfile.GFile(path, "rb") as file:
        frames = [frame.data for frame in tfrecord.read_frames(file)]
    fields = decoded_pictures.parse_entries(tf.constant(frames))
    values = {key: value.numpy() for key, value in fields.items()}
    heights, widths = values[record.HEIGHT], values[record.WIDTH]
    sizes = decoded_pictures.example_bytes(heights, widths)
    for offset, size, crc in zip(
        values[decoded_pictures.OFFSET], sizes, values[decoded_pictures.CRC32C], strict=True
    ):
        if google_crc32c.value(pixels[offset : offset + size].tobytes()) != crc:
            raise FaultFound(f"{_SETTING}: pixels of {path} are damaged; delete the folder")
