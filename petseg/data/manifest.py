"""The contract of a finished data set: manifest.json, written last.

A folder without a manifest is not a data set. TFRecord files alone do not show
that they are complete: one cut at a record's boundary simply ends early.
"""

import collections
import concurrent.futures
import dataclasses
import hashlib
import json
from collections.abc import Iterable

from etils import epath

from petseg.errors import UserError

FILE_NAME = "manifest.json"
VERSION = 2
_CHUNK_BYTES = 8 << 20  # 8 MiB
_HASH_THREADS = 8


@dataclasses.dataclass(frozen=True)
class Finding:
    """An input that was repaired or rejected, its split ('' if none), and why."""

    name: str
    split: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file and the account of the inputs that were meant for it.

    Attributes:
      name: the file's.
      records: their number.
      bytes: the file's size.
      sha256: of the file.
      inputs: SHA-256 over the inputs' names, sizes and checksums and the settings:
        the same inputs and settings give the same file.
      pixels_per_label: raw mask value -> number of pixels; empty where masks were not
        decoded (--validate=header).
      height_sum: of the stored images' heights, in pixels.
      width_sum: of the stored images' widths, in pixels.
      repaired: inputs that were re-encoded.
      rejected: inputs that were meant for this shard and are in none.
    """

    name: str
    records: int
    bytes: int
    sha256: str
    inputs: str
    pixels_per_label: dict[int, int]
    height_sum: int
    width_sum: int
    repaired: tuple[Finding, ...] = ()
    rejected: tuple[Finding, ...] = ()


@dataclasses.dataclass(frozen=True)
class Split:
    """One split: its shards, in order, and what they add up to."""

    shards: tuple[Shard, ...]

    @property
    def records(self) -> int:
        """The number of examples."""
        return sum(shard.records for shard in self.shards)

    @property
    def bytes(self) -> int:
        """The size of all shards."""
        return sum(shard.bytes for shard in self.shards)

    @property
    def pixels_per_label(self) -> dict[int, int]:
        """Raw mask value -> number of pixels in all masks; empty if not counted."""
        total: collections.Counter = collections.Counter()
        for shard in self.shards:
            total.update(shard.pixels_per_label)
        return {label: total[label] for label in sorted(total)}

    @property
    def mean_height(self) -> float:
        """Of the stored images, in pixels."""
        return sum(shard.height_sum for shard in self.shards) / self.records

    @property
    def mean_width(self) -> float:
        """Of the stored images, in pixels."""
        return sum(shard.width_sum for shard in self.shards) / self.records


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Everything that is known of a finished data set.

    Attributes:
      name: the first part of every shard's file name.
      source: how it was made: the kind of source and the settings that matter.
      raw_labels: raw mask value -> what it means.
      colours: raw mask value -> its RGB colour, where the class file gives one.
      splits: by name; a split without examples is left out.
      unplaced: inputs that were meant for no shard: without a partner, in no list.
    """

    name: str
    source: dict[str, str | int | float]
    raw_labels: dict[int, str]
    splits: dict[str, Split]
    unplaced: tuple[Finding, ...]
    colours: dict[int, tuple[int, int, int]] = dataclasses.field(default_factory=dict)

    @property
    def repaired(self) -> tuple[Finding, ...]:
        """Inputs that were re-encoded."""
        return tuple(finding for shard in self._shards() for finding in shard.repaired)

    @property
    def rejected(self) -> tuple[Finding, ...]:
        """Inputs that are not in any shard."""
        return self.unplaced + tuple(f for shard in self._shards() for f in shard.rejected)

    def _shards(self) -> list[Shard]:
        return [shard for split in self.splits.values() for shard in split.shards]

    def digest(self) -> str:
        """SHA-256 of the manifest: names this data set, shard contents included."""
        return hashlib.sha256(to_json(self).encode()).hexdigest()

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
    temporary.write_text(to_json(manifest))
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


def shard_to_json(shard: Shard) -> str:
    """One shard's account as JSON; `shard_from_json` reads it back."""
    return json.dumps(dataclasses.asdict(shard), indent=1) + "\n"


def shard_from_json(text: str) -> Shard:
    """Reads what `shard_to_json` wrote; raises ValueError if it is anything else."""
    try:
        return _shard(json.loads(text))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(repr(error)) from error


def to_json(manifest: Manifest) -> str:
    """What manifest.json holds."""
    content = {"version": VERSION, **dataclasses.asdict(manifest)}
    for name, split in manifest.splits.items():
        # What the shards add up to stands here for people; it is not read back.
        content["splits"][name] = {
            "records": split.records,
            "pixels_per_label": split.pixels_per_label,
            "mean_height": split.mean_height,
            "mean_width": split.mean_width,
            **content["splits"][name],
        }
    return json.dumps(content, indent=1) + "\n"


def _from_json(content: dict) -> Manifest:
    return Manifest(
        name=content["name"],
        source=content["source"],
        raw_labels={int(k): v for k, v in content["raw_labels"].items()},
        splits={
            name: Split(tuple(_shard(shard) for shard in split["shards"]))
            for name, split in content["splits"].items()
        },
        unplaced=_findings(content["unplaced"]),
        # Not there in data sets that were converted before there were colours.
        colours={int(k): tuple(v) for k, v in content.get("colours", {}).items()},
    )


def _shard(fields: dict) -> Shard:
    return Shard(
        **{
            **fields,
            "pixels_per_label": {int(k): v for k, v in fields["pixels_per_label"].items()},
            "repaired": _findings(fields["repaired"]),
            "rejected": _findings(fields["rejected"]),
        }
    )


def _findings(items: list[dict]) -> tuple[Finding, ...]:
    return tuple(Finding(**item) for item in items)
