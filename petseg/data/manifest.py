"""The contract of a finished data set: manifest.json, which is written last.

A folder without a manifest is not a data set. TFRecord files alone do not show whether they
are complete: one that is cut between two records simply ends early.
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
    """An input that was repaired or rejected.

    Attributes:
      name: Name of the example or file.
      split: Name of its split; empty if it has none.
      reason: What is wrong, and what was done.
    """

    name: str
    split: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Shard:
    """The metadata of one shard, a TFRecord file, and of its inputs.

    Attributes:
      name: Name of the file.
      records: Number of records.
      bytes: Size of the file, in bytes.
      sha256: SHA-256 of the file, in hexadecimal digits.
      inputs: SHA-256 over the options and the inputs' names, sizes and checksums. Equal
        values mean equal files.
      pixels_per_label: Raw mask value -> number of pixels; empty if masks were not decoded
        (--validate=header).
      height_sum: Sum of the stored images' heights, in pixels.
      width_sum: Sum of the stored images' widths, in pixels.
      repaired: Inputs that were re-encoded.
      rejected: Inputs that belong to this shard and could not be stored.
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
    """One split: its shards, in order, and their sums."""

    shards: tuple[Shard, ...]

    @property
    def records(self) -> int:
        """The number of examples."""
        return sum(shard.records for shard in self.shards)

    @property
    def bytes(self) -> int:
        """The size of all shards, in bytes."""
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
        """The mean height of the stored images, in pixels."""
        return sum(shard.height_sum for shard in self.shards) / self.records

    @property
    def mean_width(self) -> float:
        """The mean width of the stored images, in pixels."""
        return sum(shard.width_sum for shard in self.shards) / self.records


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Everything that is known about a finished data set.

    Attributes:
      name: The first part of every shard's file name.
      source: How the data set was made: the name of the source and the options that matter.
      raw_labels: Raw mask value -> its meaning.
      splits: Name -> split; a split without examples is left out.
      unplaced: Rejected inputs that belong to no shard, such as images without a mask.
      colours: Raw mask value -> RGB colour, if the class file gives one.
    """

    name: str
    source: dict[str, str | int | float]
    raw_labels: dict[int, str]
    splits: dict[str, Split]
    unplaced: tuple[Finding, ...]
    colours: dict[int, tuple[int, int, int]] = dataclasses.field(default_factory=dict)

    @property
    def repaired(self) -> tuple[Finding, ...]:
        """All inputs that were re-encoded."""
        return tuple(finding for shard in self._shards() for finding in shard.repaired)

    @property
    def rejected(self) -> tuple[Finding, ...]:
        """All inputs that are not in any shard."""
        return self.unplaced + tuple(f for shard in self._shards() for f in shard.rejected)

    def _shards(self) -> list[Shard]:
        return [shard for split in self.splits.values() for shard in split.shards]

    def digest(self) -> str:
        """Returns the SHA-256 of the manifest, which identifies all data of the data set."""
        return hashlib.sha256(to_json(self).encode()).hexdigest()

    def split(self, name: str, data_dir: str) -> Split:
        """Returns the split of that name; raises UserError if there is none."""
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
      UserError: There is no such folder or manifest, or it cannot be read.
    """
    path = epath.Path(data_dir) / FILE_NAME
    if not epath.Path(data_dir).is_dir():
        raise UserError(f"{data_dir}: no such data set folder; make it with petseg-convert")
    if not path.exists():
        raise UserError(
            f"{data_dir} has no {FILE_NAME}, so it is not a finished data set; "
            "run petseg-convert (again) to make one"
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
    """Returns the paths of a split's shards, in order."""
    return [str(epath.Path(data_dir) / shard.name) for shard in split.shards]


def check_shards(data_dir: str, splits: Iterable[Split], hashes: bool) -> list[str]:
    """Compares shards with the manifest.

    Args:
      data_dir: The folder of the data set.
      splits: The splits whose shards are checked.
      hashes: Read every byte and compare SHA-256, not only existence and size.

    Returns:
      One line for each shard that differs.
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
    """Returns a file's SHA-256 as 64 hexadecimal digits; reads it in chunks."""
    digest = hashlib.sha256()
    with epath.Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def shard_to_json(shard: Shard) -> str:
    """Returns a shard's metadata as JSON; `shard_from_json` reads it back."""
    return json.dumps(dataclasses.asdict(shard), indent=1) + "\n"


def shard_from_json(text: str) -> Shard:
    """Reads what `shard_to_json` wrote; raises ValueError if it is anything else."""
    try:
        return _shard(json.loads(text))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(repr(error)) from error


def to_json(manifest: Manifest) -> str:
    """Returns the content of manifest.json."""
    content = {"version": VERSION, **dataclasses.asdict(manifest)}
    for name, split in manifest.splits.items():
        # The sums over the shards are for people; they are not read back.
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
        # Data sets that were converted before there were colours lack them.
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
