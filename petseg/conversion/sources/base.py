"""The contract of a source: it lists named pairs of image and mask, each with a split.

A source is one constant of class `Source`, registered under the name that --source takes:

    from petseg.registry import SOURCES
    SOURCES.register("mine", Source(list_examples=list_mine))
"""

import dataclasses
import errno
import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from petseg.conversion.files import StoredFile
from petseg.data.manifest import Finding
from petseg.errors import FaultFound, UserError, shown

# The file itself is none that can be read; all else may pass, and another run can read it.
_FILES_OWN = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.EINVAL, errno.ENXIO, errno.ENODEV, errno.EFBIG),
)
# The names that data sets give to splits and to their folders.
SPLIT_OF = {
    **{"train": "train", "training": "train", "trn": "train"},
    **dict.fromkeys(("validation", "val", "valid", "dev", "eval", "evaluation"), "validation"),
    **{"test": "test", "testing": "test"},
}


class Pair(Protocol):
    """The location of an image and its mask."""

    @property
    def bytes(self) -> int:
        """The size of both, in bytes."""

    @property
    def image_name(self) -> str:
        """The image's file name."""

    def read(self) -> tuple[bytes, ...]:
        """Reads the image and its mask files: one, unless this is a SeveralMasks.

        Raises Unreadable, or FaultFound if the machine fails.
        """


class Unreadable(Exception):
    """Raised for a file that no run could read; the message is the reason."""


@dataclasses.dataclass(frozen=True, slots=True)
class FilePair:
    """An image file and a mask file."""

    image: StoredFile
    mask: StoredFile
    name: str = ""  # the image's file name, where its path does not contain it

    def __reduce__(self) -> tuple:
        """See StoredFile."""
        return FilePair, (self.image, self.mask, self.name)

    @property
    def bytes(self) -> int:
        """The size of both files, in bytes."""
        return self.image.bytes + self.mask.bytes

    @property
    def image_name(self) -> str:
        """The image's file name."""
        return self.name or self.image.path.rpartition("/")[2]

    def read(self) -> tuple[bytes, bytes]:
        """Reads both files; raises Unreadable, or FaultFound if the machine fails."""
        return read_stored(self.image, "image"), read_stored(self.mask, "mask")


@dataclasses.dataclass(frozen=True, slots=True)
class SeveralMasks:
    """An image file and the mask files that are merged to its mask (merged_masks).

    Attributes:
      image: The image.
      masks: One file for each object or class; where they overlap, the last one counts.
      values: The raw value that the pixels of each file get where they are not zero.
    """

    image: StoredFile
    masks: tuple[StoredFile, ...]
    values: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """The size of all files, in bytes."""
        return self.image.bytes + sum(mask.bytes for mask in self.masks)

    @property
    def image_name(self) -> str:
        """The image's file name."""
        return self.image.path.rpartition("/")[2]

    def read(self) -> tuple[bytes, ...]:
        """Reads all files; raises Unreadable, or FaultFound if the machine fails."""
        masks = (read_stored(mask, f"mask {shown(mask.name)}") for mask in self.masks)
        return read_stored(self.image, "image"), *masks


@dataclasses.dataclass(frozen=True, slots=True)
class SourceExample:
    """One pair to convert.

    Attributes:
      name: A name that is unique in the source.
      split: One of SPLITS.
      pair: The location of its two files.
      class_label: Id of the image's class, from 0.
      class_text: Name of the image's class.
    """

    name: str
    split: str
    pair: Pair
    class_label: int = 0
    class_text: str = ""

    def __reduce__(self) -> tuple:
        """See StoredFile."""
        fields = (self.name, self.split, self.pair, self.class_label, self.class_text)
        return SourceExample, fields


@dataclasses.dataclass(frozen=True)
class MaskRules:
    """The raw values and colours that a mask may contain.

    Attributes:
      names: Raw value -> its meaning; None if any value may occur.
      values_of_colours: RGB -> raw value, for colour-coded masks; otherwise empty.
      ignored: A raw value that is no class, whatever it is called; or None.
      stored_as: Further raw values of a class -> the one of `names` that is stored.
      threshold: Masks of one class: grey values from here on are the class, those below are
        background; `names` has these two, background first. None for all other masks.
      is_lossy_read: Whether masks may be JPEG or WebP files; only with a threshold.
    """

    names: Mapping[int, str] | None
    values_of_colours: Mapping[tuple[int, int, int], int] = dataclasses.field(default_factory=dict)
    ignored: int | None = None
    stored_as: Mapping[int, int] = dataclasses.field(default_factory=dict)
    threshold: int | None = None
    is_lossy_read: bool = False


@dataclasses.dataclass(frozen=True)
class SourceListing:
    """Everything that a source contains.

    Attributes:
      examples: The pairs to convert, in any order; they are taken once, one by one, so that a
        source of millions need not hold them all.
      rejected: Files and names that make no pair: without a partner, or in no list. They are
        complete when all examples have been taken, and may be read several times.
      masks: What the masks may contain.
      class_names: Names of the image classes, in the order of their ids.
      split_by: A description of how the splits were chosen.
      hashed: The splits that a hash of the names told apart, among which groups may be
        moved (regroup.regroup); empty if the data set gives all splits.
      facts: What the manifest says besides of how the data set was made.
    """

    examples: Iterable[SourceExample]
    rejected: Iterable[Finding]
    masks: MaskRules
    class_names: tuple[str, ...]
    split_by: str
    hashed: tuple[str, ...] = ()
    facts: Mapping[str, str | int | float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class SourceOptions:
    """Everything that a source may be given; most sources use a few of these.

    Attributes:
      raw_dir: The folder to convert, or what the source takes in its place.
      work_dir: A folder where archives may be unpacked; it is deleted in the end.
      images: A folder or pattern of images.
      masks: A folder or pattern of masks.
      annotations: A file, folder or pattern of annotations.
      attribute: The attribute of VIA's regions that is the class; empty for the only one.
      mask_rules: What the masks may contain, according to the class file.
      lists: Split -> a file that names the images of that split.
      validation_fraction: Share of the names that becomes validation, from 0 to below 1.
      test_fraction: Share of the names that becomes test, from 0 to 1.
      several_masks: Merge all masks of one name to the mask of their image.
      image_feature: The name of the image's feature; empty for the only one.
      mask_feature: The name of the mask's feature; empty for the only one.
      show_progress: Draw progress bars on standard error.
    """

    raw_dir: str = ""
    work_dir: str = ""
    images: str = ""
    masks: str = ""
    annotations: str = ""
    attribute: str = ""
    mask_rules: MaskRules = MaskRules(None)
    lists: Mapping[str, str] = dataclasses.field(default_factory=dict)
    validation_fraction: float = 0.1
    test_fraction: float = 0.0
    several_masks: bool = False
    image_feature: str = ""
    mask_feature: str = ""
    show_progress: bool = False


@dataclasses.dataclass(frozen=True)
class Source:
    """A kind of raw data.

    Attributes:
      list_examples: Lists everything that is there, without decoding a picture. Raises
        UserError if there is nothing to convert.
      options: Those of ConvertOptions that not every source takes, and this one does.
      default_name: The first part of the shards' file names, unless one is given.
      raw_labels: Raw mask value -> its meaning, if all data of this source agree on it.
      groups_of: Called with an image's file name and the name of its class. Returns the
        groups that evaluation counts the image in, kind -> group. None if there are none
        besides the classes.
    """

    list_examples: Callable[[SourceOptions], SourceListing]
    options: tuple[str, ...] = ()
    default_name: str = "data"
    raw_labels: Mapping[int, str] | None = None
    groups_of: Callable[[str, str], dict[str, str]] | None = None


def require_raw_dir(options: SourceOptions, source: str) -> None:
    """Raises UserError if raw_dir is empty."""
    if not options.raw_dir:
        raise UserError(f"--source={source} needs --raw_dir")


def hash_order(name: str) -> str:
    """The sort key of the one order that every petseg data set uses: a name's SHA-256."""
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()


def split_by_hash(name: str, validation_fraction: float, test_fraction: float) -> str:
    """Chooses a split by the name alone, so that a new image never moves another one."""
    if test_fraction == 1:
        return "test"
    position = int(hash_order(name)[:15], 16) / 16**15  # uniform in [0, 1)
    if position < validation_fraction:
        return "validation"
    return "test" if position < validation_fraction + test_fraction else "train"


def check_fractions(validation_fraction: float, test_fraction: float = 0.0) -> None:
    """Raises UserError unless both are shares that leave images to train on, or all is test."""
    if not 0 <= validation_fraction < 1:
        raise UserError(
            f"--validation_fraction={validation_fraction} must be at least 0 and below 1"
        )
    if not 0 <= test_fraction <= 1:
        raise UserError(f"--test_fraction={test_fraction} must be from 0 to 1")
    if test_fraction < 1 and not validation_fraction + test_fraction < 1:
        raise UserError(
            f"--validation_fraction={validation_fraction} and --test_fraction={test_fraction} "
            "leave no image to train on"
        )


def twins_finding(count: int, where: str) -> Finding:
    """Returns one finding for all '._*' files of a folder, which macOS leaves in archives."""
    return Finding("._*", "", f"macOS's twins of other files, no pictures: {count:,} in {where}")


def read_stored(file: StoredFile, what: str) -> bytes:
    """Reads a file of an example.

    Args:
      file: Where it is.
      what: What the messages call it.

    Raises:
      Unreadable: No run could read it.
      FaultFound: The machine failed; another run may read it.
    """
    try:
        return file.read()
    except OSError as error:
        if error.errno not in _FILES_OWN:
            raise FaultFound(
                f"{shown(file.path)} cannot be read: {error.strerror or error}; the image would "
                "be lost. Mend that, or remove the file, and run again to resume"
            ) from error
        raise Unreadable(f"{what} cannot be read: {error.strerror}") from error
