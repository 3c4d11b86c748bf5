"""What a source of examples is: named pairs of image and mask, each with a split."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Protocol

from petseg.conversion.files import StoredFile
from petseg.data.manifest import Finding
from petseg.errors import UserError

SPLITS = ("train", "validation", "test")
# Names of splits and of their folders that other data sets use.
SPLIT_OF = {
    **{"train": "train", "training": "train", "trn": "train"},
    **{"validation": "validation", "val": "validation", "valid": "validation"},
    **{"test": "test", "testing": "test"},
}


class Pair(Protocol):
    """Where an image and its mask lie."""

    @property
    def bytes(self) -> int:
        """The size of both."""

    @property
    def image_name(self) -> str:
        """The image's file name."""

    def read(self) -> tuple[bytes, bytes]:
        """The image's and the mask's content; raises Unreadable."""


class Unreadable(Exception):
    """A file that could not be read; the message is the reason."""


@dataclasses.dataclass(frozen=True, slots=True)
class FilePair:
    """An image file and a mask file."""

    image: StoredFile
    mask: StoredFile
    name: str = ""  # of the image, where its path does not say it

    @property
    def bytes(self) -> int:
        """The size of both files."""
        return self.image.bytes + self.mask.bytes

    @property
    def image_name(self) -> str:
        """The image's file name."""
        return self.name or self.image.path.rpartition("/")[2]

    def read(self) -> tuple[bytes, bytes]:
        """Both files' content; raises Unreadable."""
        return _read(self.image, "image"), _read(self.mask, "mask")


@dataclasses.dataclass(frozen=True, slots=True)
class SourceExample:
    """One pair to convert.

    Attributes:
      name: unique in the source.
      split: one of SPLITS.
      pair: where its two pictures lie.
      class_label: id of the image's class, from 0.
      class_text: name of the image's class.
    """

    name: str
    split: str
    pair: Pair
    class_label: int = 0
    class_text: str = ""


@dataclasses.dataclass(frozen=True)
class MaskRules:
    """What a mask may hold.

    Attributes:
      names: raw value -> what it means; None if any value may occur.
      values_of_colours: RGB -> raw value, for colour-coded masks; empty if there
        are none.
    """

    names: Mapping[int, str] | None
    values_of_colours: Mapping[tuple[int, int, int], int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class SourceListing:
    """Everything that a source holds.

    Attributes:
      examples: the pairs to convert.
      rejected: what is no pair: without a partner, or in no list.
      masks: what the masks may hold.
      class_names: names of the image classes, in the order of their ids.
      split_by: how the splits came about, in words.
    """

    examples: tuple[SourceExample, ...]
    rejected: tuple[Finding, ...]
    masks: MaskRules
    class_names: tuple[str, ...]
    split_by: str


def hash_order(name: str) -> str:
    """A name's place in the one order that every petseg data set uses: its SHA-256."""
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()


def split_by_hash(name: str, validation_fraction: float, test_fraction: float) -> str:
    """A split that depends on the name alone, so that new images move no others."""
    place = int(hash_order(name)[:15], 16) / 16**15
    if place < validation_fraction:
        return "validation"
    return "test" if place < validation_fraction + test_fraction else "train"


def check_fractions(validation_fraction: float, test_fraction: float = 0.0) -> None:
    """Raises UserError unless both are shares that leave something to train on."""
    for flag, value in (
        ("validation_fraction", validation_fraction),
        ("test_fraction", test_fraction),
    ):
        if not 0 <= value < 1:
            raise UserError(f"--{flag}={value} must be at least 0 and below 1")
    if not validation_fraction + test_fraction < 1:
        raise UserError(
            f"--validation_fraction={validation_fraction} and --test_fraction={test_fraction} "
            "leave nothing to train on"
        )


def twins_finding(count: int, where: str) -> Finding:
    """One line for all '._*' files of a folder."""
    return Finding("._*", "", f"{count:,} in {where}: macOS's twins of other files, no pictures")


def _read(file: StoredFile, what: str) -> bytes:
    try:
        return file.read()
    except OSError as error:
        raise Unreadable(f"{what} cannot be read: {error.strerror or error}") from error
