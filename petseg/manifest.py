"""The contract of a finished data set: manifest.json, written last.

A folder without a manifest is not a data set. TFRecord files alone do not show
that they are complete: one cut at a record's boundary simply ends early.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
from collections.abc import Iterable

from etils import epath

from petseg.errors import UserError

FILE_NAME = "manifest.json"
VERSION = 1
_CHUNK_BYTES = 8 << 20  # 8 MiB
_HASH_THREADS = 8


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file: its name, record count, size in bytes and SHA-256."""

    name: str
    records: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Split:
    """One split.

    Attributes:
      shards: in order.
      pixels_per_label: raw mask value -> number of pixels in all masks.
      mean_height: of the stored images, in pixels.
      mean_width: of the stored images, in pixels.
    """

    shards: tuple[Shard, ...]
    pixels_per_label: dict[int, int]
    mean_height: float
    mean_width: float

    @property
    def records(self) -> int:
        """The number of examples."""
        return sum(shard.records for shard in self.shards)


@dataclasses.dataclass(frozen=True)
class Finding:
    """An input that was repaired or rejected, its split ('' if none), and why."""

    name: str
    split: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Everything that is known of a finished data set.

    Attributes:
      name: the first part of every shard's file name.
      source: how it was made: the kind of source and the settings that matter.
      raw_labels: raw mask value -> what it means.
      splits: by name; a split without examples is left out.
      repaired: inputs that were re-encoded.
      rejected: inputs that are not in any shard.
    """

    name: str
    source: dict[str, str | int | float]
    raw_labels: dict[int, str]
    splits: dict[str, Split]
    repaired: tuple[Finding, ...]
    rejected: tuple[Finding, ...]

    def digest(self) -> str:
        """SHA-256 of the manifest: names this data set, shard contents included."""
        return hashlib.sha256(_to_json(self).encode()).hexdigest()

    def split(self, name: str, data_dir: str) -> Split:
        """The split of that name; raises UserError if there is none."""
        if name not in self.splits:
            raise UserError(
                f"{data_dir} has no split '{name}': it has {', '.join(self.splits) or 'none'}"
            )
        return self.splits[name]


def write_manifest(data_dir: str, manifest: Manifest) -> None:
    """Writes manifest.json under a temporary name, then renames it."""
    path = epath.Path(data_dir) / FILE_NAME
    temporary = path.with_name(FILE_NAME + ".tmp")
    temporary.write_text(_to_json(manifest))
    temporary.replace(path)


def read_manifest(data_dir: str) -> Manifest:
    """Reads manifest.json.

    Raises:
      UserError: there is no such folder or manifest, or it cannot be read.
    """
    path = epath.Path(data_dir) / FILE_NAME
    if not epath.Path(data_dir).is_dir():
        raise UserError(f"{data_dir}: no such data set folder; make it with tools/convert.py")
    if not path.exists():
        raise UserError(
            f"{data_dir} has no {FILE_NAME}, so it is not a finished data set; "
            "run tools/convert.py (again) to make one"
        )
    try:
        content = json.loads(path.read_text())
        if content["version"] != VERSION:
            raise UserError(
                f"{path} has version {content['version']}, this petseg reads {VERSION}; "
                "convert the data set again"
            )
        return _from_json(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error!r}); convert the data set again") from error


def shard_paths(data_dir: str, split: Split) -> list[str]:
    """The paths of a split's shards, in order."""
    return [str(epath.Path(data_dir) / shard.name) for shard in split.shards]


def check_shards(data_dir: str, splits: Iterable[Split], hashes: bool) -> list[str]:
    """Compares shards with the manifest.

    Args:
      data_dir: the data set.
      splits: whose shards to check.
      hashes: read every byte and compare SHA-256, not only existence and size.

    Returns:
      One line for each shard that differs; empty if all is well.
    """

    def check(shard: Shard) -> str | None:
        path = epath.Path(data_dir) / shard.name
        if not path.exists():
            return f"{path} is missing"
        if (size := path.stat().length) != shard.bytes:
            return f"{path} has {size:,} bytes, its manifest says {shard.bytes:,}"
        if hashes and sha256_of_file(path) != shard.sha256:
            return f"{path} differs from its manifest (SHA-256)"
        return None

    shards = [shard for split in splits for shard in split.shards]
    with concurrent.futures.ThreadPoolExecutor(_HASH_THREADS) as pool:
        return [fault for fault in pool.map(check, shards) if fault]


def sha256_of_file(path: epath.PathLike) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits; reads it in chunks."""
    digest = hashlib.sha256()
    with epath.Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _to_json(manifest: Manifest) -> str:
    return json.dumps({"version": VERSION, **dataclasses.asdict(manifest)}, indent=1) + "\n"


def _from_json(content: dict) -> Manifest:
    def split(fields: dict) -> Split:
        return Split(
            shards=tuple(Shard(**shard) for shard in fields["shards"]),
            pixels_per_label={int(k): v for k, v in fields["pixels_per_label"].items()},
            mean_height=fields["mean_height"],
            mean_width=fields["mean_width"],
        )

    return Manifest(
        name=content["name"],
        source=content["source"],
        raw_labels={int(k): v for k, v in content["raw_labels"].items()},
        splits={name: split(fields) for name, fields in content["splits"].items()},
        repaired=tuple(Finding(**finding) for finding in content["repaired"]),
        rejected=tuple(Finding(**finding) for finding in content["rejected"]),
    )
