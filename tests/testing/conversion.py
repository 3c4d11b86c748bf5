"""Conversions in this process, for tests."""

import dataclasses
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
from PIL import Image

from petseg.conversion import convert as convert_lib
from petseg.conversion import plan
from petseg.conversion.convert import ConvertOptions
from petseg.conversion.prepare import RecordOptions
from petseg.conversion.sources.base import SourceListing
from petseg.conversion.write_dataset import WriteOptions, new_plan_folder, write_dataset
from petseg.conversion.write_shards import RunnerOptions
from petseg.data import output_folder, record
from petseg.data.manifest import Manifest

_SHARD_MIB = 0.05


def convert(raw: Path, output: Path, **changes: object) -> Manifest:
    """Converts a pets folder as petseg-convert does, in this process."""
    options = {"validation_fraction": 0.25, "shard_mib": _SHARD_MIB, "workers": 1, **changes}
    return convert_lib.convert(
        ConvertOptions(output_dir=str(output), raw_dir=str(raw), **options), show_progress=False
    )


def convert_raw(raw: Path, encoded_dir: Path, output: Path, **changes: object) -> Manifest:
    """Converts a pets folder with --store=raw, to as many shards as `convert` has made of it.

    So both data sets hold their records in the same order.
    """
    raw_bytes = source_bytes = 0
    for serialized in tf.data.TFRecordDataset(sorted(map(str, encoded_dir.glob("*-train.*")))):
        fields = record.parse_record(serialized)
        height, width = int(fields[record.HEIGHT]), int(fields[record.WIDTH])
        raw_bytes += 4 * height * width
        source_bytes += sum(len(fields[key].numpy()) for key in (record.IMAGE, record.MASK))
    shard_mib = _SHARD_MIB * raw_bytes / source_bytes
    return convert(raw, output, store="raw", shard_mib=shard_mib, **changes)


def write(list_examples: Callable[[], SourceListing], output: Path) -> Manifest:
    """Writes the data set of a listing, in this process."""
    with output_folder.claim(str(output)):
        listing = list_examples()
        return write_dataset(
            listing,
            plan.make_plan(listing.examples, new_plan_folder(str(output))),
            WriteOptions(
                str(output),
                name="pets",
                source={"split_by": ""},
                records=RecordOptions(listing.masks),
                shard_mib=_SHARD_MIB,
                runner=RunnerOptions(show_progress=False),
            ),
        )


def taken(listing: SourceListing) -> SourceListing:
    """Returns a listing with all that it lists in memory."""
    return dataclasses.replace(
        listing, examples=tuple(listing.examples), rejected=tuple(listing.rejected)
    )


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    """Encodes a picture as a file of that kind."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def files_of(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file of a folder, by name."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
