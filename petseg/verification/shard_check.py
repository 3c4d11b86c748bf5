"""Checks a shard: reads every record and reports each fault."""

import dataclasses
import hashlib
import io
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
from etils import epath
from PIL import Image

from petseg.data import jpeg, picture_file, record, regular_file, tfrecord
from petseg.data.manifest import Shard
from petseg.errors import shown

_GREY_8_BITS = bytes([8, 0])
_DEPTH_AND_COLOUR_TYPE = slice(24, 26)  # in the bytes of a PNG
_GRID = 9


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """One shard to check.

    Attributes:
      path: Path of the file.
      metadata: The shard's metadata in the manifest.
      raw_labels: Raw value -> its meaning, for every value that masks may contain.
    """

    path: str
    metadata: Shard
    raw_labels: Mapping[int, str]


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


class _Bad(Exception):
    """Raised for a record with a fault; the message says which."""


def check_shard(task: ShardTask, advance: Callable[[], None]) -> ShardReport:
    """Reads a shard and decodes every picture in it.

    Args:
      task: The shard.
      advance: Called after each record.
    """
    faults, names, prints = [], [], []
    pixels: dict[int, int] = {}
    digest, count = hashlib.sha256(), 0
    path = epath.Path(task.path)
    if not regular_file.is_regular(path):  # a FIFO would be waited for, a device read for ever
        what = "no regular file" if path.exists() else "missing"
        return ShardReport((f"{path} is {what}",), (), _as_array([]))
    with path.open("rb") as file:
        try:
            for frame in tfrecord.read_frames(_Hashing(file, digest)):
                name = ""
                try:
                    fields = _fields(frame)
                    name = fields[record.SOURCE_ID]
                    prints.append(_check_record(fields, task.raw_labels, pixels))
                    names.append(name)
                except _Bad as fault:
                    suffix = f" ({shown(name)})" if name else ""
                    faults.append(f"{path}, record {count}{suffix}: {fault}")
                count += 1
                advance()
        except tfrecord.DamagedFrame as fault:
            faults.append(f"{path}, record {count}: {fault}")
        except OSError as error:
            faults.append(f"{path} cannot be read: {error.strerror or error}")
    faults += _compare(task, count, path.stat().length, digest.hexdigest(), pixels, bool(faults))
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
        return {
            record.IMAGE: features[record.IMAGE].bytes_list.value[0],
            record.MASK: features[record.MASK].bytes_list.value[0],
            record.SOURCE_ID: features[record.SOURCE_ID]
            .bytes_list.value[0]
            .decode(errors="surrogateescape"),
            record.HEIGHT: features[record.HEIGHT].int64_list.value[0],
            record.WIDTH: features[record.WIDTH].int64_list.value[0],
        }
    except (ValueError, IndexError, TypeError) as error:
        raise _Bad("it is no example with an image, a mask, a name and a size") from error


def _check_record(
    fields: Mapping, raw_labels: Mapping[int, str], pixels: dict[int, int]
) -> tuple[int, int]:
    """Adds to the pixels of each label; returns the image's fingerprint."""
    size = (fields[record.HEIGHT], fields[record.WIDTH])
    image, mask = fields[record.IMAGE], fields[record.MASK]
    # Before they are decoded, because headers may claim sizes that no memory holds.
    claimed = [picture_file.size_by_header(content) for content in (image, mask)]
    if None not in claimed:
        _check_sizes(*claimed, size)
    try:
        grey = jpeg.decode_small(image)
        height, width, channels = tf.io.extract_jpeg_shape(image).numpy().tolist()
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
    _check_sizes((height, width), labels.shape, size)
    values, counts = np.unique(labels, return_counts=True)
    for value, number in zip(values.tolist(), counts.tolist(), strict=True):
        pixels[value] = pixels.get(value, 0) + number
    unknown = sorted(set(values.tolist()) - set(raw_labels))
    if unknown and raw_labels:  # without class file and decoding, the manifest names none
        raise _Bad(
            f"its mask holds {', '.join(map(str, unknown))}, which the manifest does not name"
        )
    return fingerprint(grey)


def _check_sizes(image: tuple[int, int], mask: tuple[int, int], said: tuple[int, int]) -> None:
    """Raises _Bad unless all three are the same height and width."""
    if not image == mask == said:
        raise _Bad(
            f"its image is {image[1]}x{image[0]} px, its mask {mask[1]}x{mask[0]}, "
            f"its record says {said[1]}x{said[0]}"
        )


def _compare(
    task: ShardTask, count: int, size: int, sha256: str, pixels: dict[int, int], is_faulty: bool
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
    is_counted = metadata.pixels_per_label and not is_faulty and not faults
    if is_counted and dict(sorted(pixels.items())) != metadata.pixels_per_label:
        faults.append(f"{task.path} holds other numbers of pixels than its manifest says")
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
