"""The contract of a finished data set: manifest.json, which is written last.

A folder without a manifest is not a data set. TFRecord files alone do not show whether they
are complete: one that is cut between two records simply ends early.
"""

import collections
import dataclasses
import functools
import hashlib
import json
from typing import Annotated, Literal

import pydantic
from etils import epath

from petseg.data import json_file, store_kinds, tfrecord
from petseg.data.json_file import STRICT, Byte, Count, Sha256
from petseg.errors import UserError

FILE_NAME = "manifest.json"
VERSION = 2
_PLACE = "the shards of "  # in a text that has them in the end
_MAX_SIDE_PX = 65535  # of a JPEG

# What becomes part of a file's name.
_Word = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=200)]
# A label map written as text has a meaning for ';' and '='; control characters move a terminal.
_ClassName = Annotated[str, pydantic.Field(pattern=r"^[^;=\x00-\x1f\x7f-\x9f]+$", max_length=1000)]


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


@pydantic.with_config(STRICT)
@dataclasses.dataclass(frozen=True)
class FindingsFile:
    """The metadata of findings.jsonl; see petseg.data.findings.

    Attributes:
      repaired: Number of inputs that were re-encoded.
      rejected: Number of inputs that are in no shard.
      sha256: SHA-256 of the file, in hexadecimal digits.
    """

    repaired: Count
    rejected: Count
    sha256: Sha256


@pydantic.with_config(STRICT)
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
      encoded_bytes: Size of the JPEGs and PNGs whose pixels are stored; 0 if they are stored
        themselves.
    """

    name: str
    records: Count
    bytes: Count
    sha256: Sha256
    inputs: Sha256
    pixels_per_label: dict[Byte, Count]
    height_sum: Count
    width_sum: Count
    repaired: tuple[Finding, ...] = ()
    rejected: tuple[Finding, ...] = ()
    encoded_bytes: Count = 0


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
    def encoded_bytes(self) -> int:
        """See Shard; of all shards."""
        return sum(shard.encoded_bytes for shard in self.shards)

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
      findings: The file that holds the findings of all shards and the unplaced inputs, if they
        are too many for the manifest, which holds none of them then.
      store: How pictures are stored: one of store_kinds.STORES.
    """

    name: str
    source: dict[str, str | int | float]
    raw_labels: dict[Byte, _ClassName]
    splits: dict[str, Split]
    unplaced: tuple[Finding, ...]
    colours: dict[Byte, tuple[Byte, Byte, Byte]] = dataclasses.field(default_factory=dict)
    findings: FindingsFile | None = None
    store: str = store_kinds.ENCODED

    def __repr__(self) -> str:
        """The images of each split, and how many inputs were repaired and rejected."""
        images = [f"{split.records:,} {name}" for name, split in self.splits.items()]
        counted = self.findings or self
        repaired, rejected = (
            len(found) if isinstance(found, tuple) else found
            for found in (counted.repaired, counted.rejected)
        )
        return (
            f"<Manifest of {self.name}: images {', '.join(images) or 'none'}; {repaired:,} inputs "
            f"repaired, {rejected:,} rejected>"
        )

    @property
    def repaired(self) -> tuple[Finding, ...]:
        """The inputs that were re-encoded; none if they are in `findings`."""
        return tuple(finding for shard in self._shards() for finding in shard.repaired)

    @property
    def rejected(self) -> tuple[Finding, ...]:
        """The inputs that are not in any shard; none if they are in `findings`."""
        return self.unplaced + tuple(f for shard in self._shards() for f in shard.rejected)

    def _shards(self) -> list[Shard]:
        return [shard for split in self.splits.values() for shard in split.shards]

    def digest(self) -> str:
        """Returns the SHA-256 of the manifest, which identifies all data of the data set."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        return hashlib.sha256(to_json(self).encode()).hexdigest()

    def split(self, name: str, data_dir: str) -> Split:
        """Returns the split of that name; raises UserError if there is none."""
        if name not in self.splits:
            raise UserError(
                f"{data_dir} has no split '{name}': it has {', '.join(self.splits) or 'none'}"
            )
        return self.splits[name]


@pydantic.with_config(STRICT)
@dataclasses.dataclass(frozen=True)
class _StoredSplit:
    """A split as manifest.json has it: with the sums over its shards, for people."""

    records: Count
    pixels_per_label: dict[Byte, Count]
    mean_height: float
    mean_width: float
    shards: Annotated[tuple[Shard, ...], pydantic.Field(min_length=1)]


@pydantic.with_config(STRICT)
@dataclasses.dataclass(frozen=True)
class _StoredManifest:
    """The content of manifest.json; see Manifest."""

    version: int
    name: _Word
    source: dict[str, str | int | float]
    raw_labels: dict[Byte, _ClassName]
    splits: Annotated[dict[_Word, _StoredSplit], pydantic.Field(min_length=1)]
    unplaced: tuple[Finding, ...]
    # Older data sets lack these.
    colours: dict[Byte, tuple[Byte, Byte, Byte]] = dataclasses.field(default_factory=dict)
    findings: FindingsFile | None = None
    store: Literal[store_kinds.STORES] = store_kinds.ENCODED


@pydantic.with_config(pydantic.ConfigDict(strict=True, extra="ignore"))
@dataclasses.dataclass(frozen=True)
class _Version:
    version: int


def shard_name(name: str, split: str, index: int, count: int) -> str:
    """Returns a shard's file name, such as 'pets-train.tfrecord-00000-of-00008'."""
    return f"{name}-{split}.tfrecord-{index:05d}-of-{count:05d}"


def write_manifest(data_dir: str, manifest: Manifest) -> None:
    """Writes manifest.json under a temporary name, then renames it."""
    path = epath.Path(data_dir) / FILE_NAME
    temporary = path.with_name(FILE_NAME + ".tmp")
    temporary.write_text(to_json(manifest))
    temporary.replace(path)


def read_manifest(data_dir: str, remedy: str = "convert the data set again") -> Manifest:
    """Reads manifest.json.

    Args:
      data_dir: The folder.
      remedy: What to do if the manifest is damaged.

    Raises:
      UserError: There is no such folder or manifest, or it cannot be read, or holds what no
        manifest can hold.
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
        version = json_file.read(path, _Version).version
        if version != VERSION:
            raise UserError(
                f"{path} has version {version}, this petseg reads {VERSION}; "
                "convert the data set again"
            )
        stored = json_file.read(path, _StoredManifest)
        splits = {name: Split(split.shards) for name, split in stored.splits.items()}
        for name, split in splits.items():
            _check_split(stored, name, split)
        _check_labels(stored)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}; {remedy}") from error
    return Manifest(
        **{field.name: getattr(stored, field.name) for field in dataclasses.fields(Manifest)}
        | {"splits": splits}
    )


def _check_split(stored: _StoredManifest, name: str, split: Split) -> None:
    """Raises ValueError unless names and numbers of a split agree with each other."""
    for index, shard in enumerate(split.shards):
        where = f"splits.{name}.shards[{index}]"
        expected = shard_name(stored.name, name, index, len(split.shards))
        _check(f"{where}.name", shard.name, shard.name == expected, expected)
        most = shard.bytes // tfrecord.FRAME_BYTES
        _check(f"{where}.records", shard.records, 1 <= shard.records <= most, f"1 to {most:,}")
        sides = (shard.height_sum, shard.width_sum)
        if any(sides) or shard.pixels_per_label:  # feature caches have neither
            least, most = shard.records, shard.records * _MAX_SIDE_PX
            for key, side in zip(("height_sum", "width_sum"), sides, strict=True):
                _check(f"{where}.{key}", side, least <= side <= most, f"{least:,} to {most:,}")
        if shard.pixels_per_label:
            pixels, most = sum(shard.pixels_per_label.values()), sides[0] * sides[1]
            is_possible = shard.records <= pixels <= most
            _check(f"{where}.pixels_per_label", pixels, is_possible, f"{least:,} to {most:,}")
    of_file = stored.splits[name]
    for key in ("records", "pixels_per_label", "mean_height", "mean_width"):
        value, expected = getattr(of_file, key), getattr(split, key)
        _check(f"splits.{name}.{key}", value, value == expected, f"{expected}, by its shards")
    if stored.raw_labels and (unknown := split.pixels_per_label.keys() - stored.raw_labels.keys()):
        raise ValueError(f"splits.{name} counts label {min(unknown)}, which raw_labels lacks")


def _check_labels(stored: _StoredManifest) -> None:
    names = list(stored.raw_labels.values())
    if duplicates := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"raw_labels: '{duplicates[0]}' is the name of several labels")
    if unknown := stored.colours.keys() - stored.raw_labels.keys():
        raise ValueError(f"colours: label {min(unknown)} is not in raw_labels")


def _check(where: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"{where} is {value!r}, it should be {expected}")


def shard_paths(data_dir: str, split: Split) -> list[str]:
    """Returns the paths of a split's shards, in order."""
    return [str(epath.Path(data_dir) / shard.name) for shard in split.shards]


def shard_to_json(shard: Shard) -> str:
    """Returns a shard's metadata as JSON; `shard_from_json` reads it back."""
    return json.dumps(shard, indent=1, default=_fields_of) + "\n"


def shard_from_json(text: str) -> Shard:
    """Reads what `shard_to_json` wrote; raises ValueError if it is anything else."""
    return json_file.parse(text, Shard)


def to_json(manifest: Manifest) -> str:
    """Returns the content of manifest.json."""
    fields = dataclasses.fields(manifest)
    content = {
        "version": VERSION,
        **{field.name: getattr(manifest, field.name) for field in fields},
    }
    if manifest.findings is None:
        del content["findings"]
    if manifest.store == store_kinds.ENCODED:  # as in data sets of before
        del content["store"]
    # The sums over the shards are for people; they are not read back.
    content["splits"] = {
        name: {
            "records": split.records,
            "pixels_per_label": split.pixels_per_label,
            "mean_height": split.mean_height,
            "mean_width": split.mean_width,
            "shards": f"{_PLACE}{name}",
        }
        for name, split in manifest.splits.items()
    }
    text = json.dumps(content, indent=1, default=_fields_of) + "\n"
    # json indents in Python, half a minute for 100,000 shards; so their text is made here.
    for name, split in manifest.splits.items():
        shards = ",\n    ".join(map(_indented, split.shards))
        text = text.replace(f'"{_PLACE}{name}"', f"[\n    {shards}\n   ]", 1)
    return text


def _fields_of(part: object) -> dict[str, object]:
    """Returns what is stored of a part of a manifest."""
    fields = dict(vars(part))
    if isinstance(part, Shard) and not part.encoded_bytes:  # as in data sets of before
        del fields["encoded_bytes"]
    return fields


def _indented(shard: Shard) -> str:
    """Returns what json.dumps gives for a shard of a split, indented by one."""
    if shard.repaired or shard.rejected or not shard.pixels_per_label:
        return json.dumps(shard, indent=1, default=_fields_of).replace("\n", "\n    ")
    fields = {
        "name": json.dumps(shard.name),
        "records": shard.records,
        "bytes": shard.bytes,
        "sha256": json.dumps(shard.sha256),
        "inputs": json.dumps(shard.inputs),
        "pixels_per_label": "{\n      "
        + ",\n      ".join(f'"{value}": {n}' for value, n in shard.pixels_per_label.items())
        + "\n     }",
        "height_sum": shard.height_sum,
        "width_sum": shard.width_sum,
        "repaired": "[]",
        "rejected": "[]",
    }
    if shard.encoded_bytes:
        fields["encoded_bytes"] = shard.encoded_bytes
    lines = ",\n     ".join(f'"{name}": {value}' for name, value in fields.items())
    return f"{{\n     {lines}\n    }}"
