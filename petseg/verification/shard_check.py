"""Checks a shard: reads every record and reports each fault."""

import collections
import dataclasses
import hashlib
import io
import os
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
from PIL import Image

from petseg.data import (
    jpeg,
    picture_file,
    raw_picture,
    record,
    shard_hashes,
    store_kinds,
    tfrecord,
)
from petseg.data.manifest import Shard
from petseg.errors import shown

_GREY_8_BITS = bytes([8, 0])
_DEPTH_AND_COLOUR_TYPE = slice(24, 26)  # in the bytes of a PNG
_GRID = 9
_REDUCTION = 8  # as jpeg.decode_small


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """One shard to check.

    Attributes:
      path: Path of the file.
      metadata: The shard's metadata in the manifest.
      raw_labels: Raw value -> its meaning, for every value that masks may contain.
      store: How the data set stores pictures: one of store_kinds.STORES.
    """

    path: str
    metadata: Shard
    raw_labels: Mapping[int, str]
    store: str = store_kinds.ENCODED


@dataclasses.dataclass(frozen=True)
class ShardReport:
    """The result of checking one shard.

    Attributes:
      faults: One line for each fault.
      names: Names of the readable records, in order.
      prints: Fingerprints of the readable records, uint64 [records, 2].
    """

    faults: tuple[str, ...]
    names: tuple[str, ...]
    prints: np.ndarray


@dataclasses.dataclass
class _Sums:
    """Sums over the readable records, as the manifest has them."""

    pixels_per_label: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    height_sum: int = 0
    width_sum: int = 0


class _Bad(Exception):
    """Raised for a record with a fault; the message says which."""


def check_shard(task: ShardTask, advance: Callable[[], None]) -> ShardReport:
    """Reads a shard and decodes every picture in it.

    Args:
      task: The shard.
      advance: Called after each record.
    """
    faults, names, prints = [], [], []
    sums = _Sums()
    digest, size, count, path = hashlib.sha256(), 0, 0, task.path
    try:
        with shard_hashes.open_shard(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            for frame in tfrecord.read_frames(_Hashing(file, digest)):
                name = ""
                try:
                    fields = _fields(frame)
                    name = fields[record.SOURCE_ID]
                    prints.append(_check_record(fields, task, sums))
                    names.append(name)
                except _Bad as fault:
                    suffix = f" ({shown(name)})" if name else ""
                    faults.append(f"{path}, record {count}{suffix}: {fault}")
                count += 1
                advance()
    except tfrecord.DamagedFrame as fault:
        faults.append(f"{path}, record {count}: {fault}")
    except FileNotFoundError:
        return ShardReport((f"{path} is missing",), (), _as_array([]))
    except OSError as error:
        return ShardReport(
            (*faults, f"{path} cannot be read: {error.strerror or error}"),
            tuple(names),
            _as_array(prints),
        )
    faults += _compare(task, count, size, digest.hexdigest(), sums, bool(faults))
    return ShardReport(tuple(faults), tuple(names), _as_array(prints))


def fingerprint(grey: np.ndarray) -> tuple[int, int]:
    """Computes a picture's 'difference hash': where it gets brighter to the right and down.

    Pictures that were scaled, compressed again or slightly changed keep nearly all of the 128
    bits, which stand for a grid of 8 by 8 cells.

    Args:
      grey: uint8 [height, width].

    Returns:
      Two unsigned integers of 64 bits.
    """
    small = Image.fromarray(grey).resize((_GRID, _GRID), Image.Resampling.BOX)
    cells = np.asarray(small).astype(np.int16)
    right, down = cells[:-1, 1:] > cells[:-1, :-1], cells[1:, :-1] > cells[:-1, :-1]
    return tuple(int.from_bytes(np.packbits(bits).tobytes()) for bits in (right, down))


def _fields(frame: tfrecord.Frame) -> dict[str, bytes | int | str]:
    if not frame.intact:
        raise _Bad("its checksum differs")
    try:
        features = tf.train.Example.FromString(frame.data).features.feature
        name = _only(features[record.SOURCE_ID].bytes_list)
        return {
            record.IMAGE: _only(features[record.IMAGE].bytes_list),
            record.MASK: _only(features[record.MASK].bytes_list),
            record.SOURCE_ID: name.decode(errors="surrogateescape"),
            record.HEIGHT: _only(features[record.HEIGHT].int64_list),
            record.WIDTH: _only(features[record.WIDTH].int64_list),
        }
    except (ValueError, TypeError) as error:
        raise _Bad("it is no example with an image, a mask, a name and a size") from error


def _only(values: tf.train.BytesList | tf.train.Int64List) -> bytes | int:
    """The value of a feature that has one; a reader of batches takes no other."""
    (value,) = values.value
    return value


def _check_record(fields: Mapping, task: ShardTask, sums: _Sums) -> tuple[int, int]:
    """Adds to the sums; returns the image's fingerprint."""
    raw_labels = task.raw_labels
    size = (fields[record.HEIGHT], fields[record.WIDTH])
    image, mask = fields[record.IMAGE], fields[record.MASK]
    # Before they are decoded, because headers may claim sizes that no memory holds.
    claimed = [picture_file.size_by_header(content) for content in (image, mask)]
    if None not in claimed:
        _check_sizes(*claimed, size)
    decode = _raw_pixels if task.store == store_kinds.RAW else _decoded
    grey, sides, labels = decode(image, mask)
    _check_sizes(sides, labels.shape, size)
    values, counts = np.unique(labels, return_counts=True)
    sums.pixels_per_label.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    sums.height_sum += sides[0]
    sums.width_sum += sides[1]
    unknown = sorted(set(values.tolist()) - set(raw_labels))
    if unknown and raw_labels:  # without class file and decoding, the manifest names none
        raise _Bad(
            f"its mask holds {', '.join(map(str, unknown))}, which the manifest does not name"
        )
    return fingerprint(grey)


def _decoded(image: bytes, mask: bytes) -> tuple[np.ndarray, tuple[int, int], np.ndarray]:
    """Decodes a JPEG and a PNG.

    Returns:
      uint8 [height, width], the image in grey and small; its height and width; uint8 [height,
      width], the mask.
    """
    try:
        grey = jpeg.decode_small(image)
        *sides, channels = tf.io.extract_jpeg_shape(image).numpy().tolist()
    except jpeg.DamagedJpeg as reason:
        raise _Bad(f"its image is damaged: {reason}") from reason
    if channels != 3:
        raise _Bad(f"its image has {channels} channels instead of 3")
    if mask[_DEPTH_AND_COLOUR_TYPE] != _GREY_8_BITS:
        raise _Bad("its mask is no 8-bit PNG of one channel")
    try:
        labels = record.decode_mask(mask).numpy()[..., 0]
    except tf.errors.InvalidArgumentError as error:
        raise _Bad("its mask cannot be decoded") from error
    return grey, tuple(sides), labels


def _raw_pixels(image: bytes, mask: bytes) -> tuple[np.ndarray, tuple[int, int], np.ndarray]:
    """The pixels of raw pictures; see _decoded."""
    what = "image"
    try:
        pixels = raw_picture.decode(image, 3)
        what = "mask"
        labels = raw_picture.decode(mask, 1)
    except ValueError as error:
        raise _Bad(f"its {what} is not as --store=raw writes it: {error}") from error
    grey = np.asarray(Image.fromarray(pixels).convert("L").reduce(_REDUCTION))
    return grey, pixels.shape[:2], labels[..., 0]


def _check_sizes(image: tuple[int, int], mask: tuple[int, int], said: tuple[int, int]) -> None:
    """Raises _Bad unless all three are the same height and width."""
    if not image == mask == said:
        raise _Bad(
            f"its image is {image[1]}x{image[0]} px, its mask {mask[1]}x{mask[0]}, "
            f"its record says {said[1]}x{said[0]}"
        )


def _compare(
    task: ShardTask, count: int, size: int, sha256: str, sums: _Sums, is_faulty: bool
) -> list[str]:
    """Compares a shard's sums with its metadata."""
    metadata, faults = task.metadata, []
    if count != metadata.records:
        faults.append(
            f"{task.path} holds {count:,} records, its manifest says {metadata.records:,}"
        )
    if size != metadata.bytes:
        faults.append(f"{task.path} has {size:,} bytes, its manifest says {metadata.bytes:,}")
    elif sha256 != metadata.sha256:
        faults.append(f"{task.path} differs from its manifest (SHA-256)")
    if is_faulty or faults:  # then the sums lack something
        return faults
    if metadata.pixels_per_label not in ({}, sums.pixels_per_label):
        faults.append(f"{task.path} holds other numbers of pixels than its manifest says")
    for key in ("height_sum", "width_sum"):
        found, expected = getattr(sums, key), getattr(metadata, key)
        if found != expected:
            faults.append(f"{task.path} has {key} {found:,}, its manifest says {expected:,}")
    return faults


class _Hashing:
    """A file whose bytes are hashed while they are read."""

    def __init__(self, file: io.BufferedIOBase, digest: object):
        self._file, self._digest = file, digest

    def read(self, size: int) -> bytes:
        """Reads and hashes the next bytes."""
        content = self._file.read(size)
        self._digest.update(content)
        return content


def _as_array(prints: list[tuple[int, int]]) -> np.ndarray:
    return np.array(prints, np.uint64).reshape(-1, 2)
