"""Where examples come from: a listing of named image and mask files."""

import dataclasses
import hashlib
from collections.abc import Collection, Iterator, Mapping

from etils import epath

from petseg.conversion.checks import picture_format
from petseg.errors import UserError
from petseg.manifest import Finding


@dataclasses.dataclass(frozen=True)
class SourceExample:
    """One listed pair of files, both known to exist.

    Attributes:
      name: unique in the source; the stem of both files.
      split: 'train', 'validation' or 'test'.
      image_path: the image file.
      mask_path: the label mask.
      class_label: id of the image's class, from 0.
      class_text: name of the image's class.
    """

    name: str
    split: str
    image_path: str
    mask_path: str
    class_label: int
    class_text: str


@dataclasses.dataclass(frozen=True)
class SourceListing:
    """Everything that a raw folder holds.

    Attributes:
      examples: the pairs to convert.
      rejected: listed pairs that lack a file, and files that no list names.
      raw_labels: every mask value that is allowed -> what it means.
      class_names: names of the image classes, in the order of their ids.
    """

    examples: tuple[SourceExample, ...]
    rejected: tuple[Finding, ...]
    raw_labels: Mapping[int, str]
    class_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _ListedName:
    name: str
    class_id: int


PET_LABELS = {1: "pet", 2: "background", 3: "border"}


def hash_order(name: str) -> str:
    """A name's place in the one order that every petseg data set uses: its SHA-256."""
    return hashlib.sha256(name.encode()).hexdigest()


def list_oxford_iiit_pet(raw_dir: str, validation_fraction: float) -> SourceListing:
    """Lists a folder in the official Oxford-IIIT pet layout.

    The layout is images/NAME.jpg, annotations/trimaps/NAME.png and
    annotations/trainval.txt (and test.txt, where there is one) with lines
    'NAME CLASS-ID SPECIES BREED-ID'. `validation` is carved out of trainval,
    from each breed the names that come first in hash order; the listed names
    alone decide, so a missing file moves no other.

    Args:
      raw_dir: the folder.
      validation_fraction: share of each breed's listed names, 0 to below 1.

    Raises:
      UserError: a folder or list is missing or malformed, or no listed pair exists.
    """
    root = epath.Path(raw_dir)
    annotations = root / "annotations"
    for folder in (root, root / "images", annotations / "trimaps"):
        if not folder.is_dir():
            raise UserError(
                f"--raw_dir: {folder} is not a folder; expected the official layout "
                "images/*.jpg, annotations/trimaps/*.png, annotations/trainval.txt"
            )
    splits = _carve_validation(_read_list(annotations / "trainval.txt"), validation_fraction)
    if (annotations / "test.txt").exists():
        splits["test"] = _read_list(annotations / "test.txt")
    class_names = _class_names(splits)
    images = _file_names(root / "images", ".jpg")
    masks = _file_names(annotations / "trimaps", ".png")

    examples, rejected, seen = [], [], set()
    for split, listed in splits.items():
        for item in listed:
            if reason := _why_not(item.name, seen, images, masks):
                rejected.append(Finding(item.name, split, reason))
                continue
            seen.add(item.name)
            examples.append(
                SourceExample(
                    name=item.name,
                    split=split,
                    image_path=str(root / "images" / f"{item.name}.jpg"),
                    mask_path=str(annotations / "trimaps" / f"{item.name}.png"),
                    class_label=item.class_id - 1,
                    class_text=class_names[item.class_id - 1],
                )
            )
    if not examples:
        raise UserError(
            f"--raw_dir: of {len(rejected)} names in the lists of {annotations} not one "
            f"has both its files in {root / 'images'} and {annotations / 'trimaps'}"
        )
    named = {item.name for listed in splits.values() for item in listed}
    rejected.extend(_unlisted(root / "images", images - {f"{n}.jpg" for n in named}))
    rejected.extend(_unlisted(annotations / "trimaps", masks - {f"{n}.png" for n in named}))
    return SourceListing(tuple(examples), tuple(rejected), PET_LABELS, class_names)


def _read_list(path: epath.Path) -> list[_ListedName]:
    if not path.exists():
        raise UserError(f"--raw_dir: {path} not found; it lists the images, one a line")
    listed = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) < 2 or not fields[1].isdecimal() or int(fields[1]) < 1:
            raise UserError(
                f"{path}, line {number}: '{line}' is not 'NAME CLASS-ID SPECIES BREED-ID'"
            )
        if "/" in fields[0] or "\\" in fields[0]:
            raise UserError(f"{path}, line {number}: the name '{fields[0]}' must not be a path")
        listed.append(_ListedName(fields[0], int(fields[1])))
    if not listed:
        raise UserError(f"{path} lists no image")
    return listed


def _carve_validation(trainval: list[_ListedName], fraction: float) -> dict[str, list[_ListedName]]:
    if not 0 <= fraction < 1:
        raise UserError(f"--validation_fraction={fraction} must be at least 0 and below 1")
    breeds: dict[int, set[str]] = {}
    for item in trainval:
        breeds.setdefault(item.class_id, set()).add(item.name)
    validation = set()
    for names in breeds.values():
        ordered = sorted(names, key=hash_order)
        validation.update(ordered[: round(fraction * len(ordered))])
    return {
        "train": [item for item in trainval if item.name not in validation],
        "validation": [item for item in trainval if item.name in validation],
    }


def _class_names(splits: Mapping[str, list[_ListedName]]) -> tuple[str, ...]:
    """Breeds by class id; a name is its breed and a number, as in 'Abyssinian_100'."""
    by_id = {
        item.class_id: item.name.rpartition("_")[0] or item.name
        for listed in splits.values()
        for item in listed
    }
    return tuple(by_id.get(i, f"class_{i}") for i in range(1, max(by_id) + 1))


def _file_names(folder: epath.Path, suffix: str) -> set[str]:
    """Names in a folder; '._*' twins, which macOS leaves in archives, are no pictures."""
    return {
        path.name
        for path in folder.iterdir()
        if path.name.lower().endswith(suffix) and not path.name.startswith("._")
    }


def _why_not(name: str, seen: set[str], images: set[str], masks: set[str]) -> str | None:
    if name in seen:
        return "listed more than once; the first listing counts"
    lacking = []
    if f"{name}.jpg" not in images:
        lacking.append("image")
    if f"{name}.png" not in masks:
        lacking.append("trimap")
    return f"{' and '.join(lacking)} missing" if lacking else None


def _unlisted(folder: epath.Path, names: Collection[str]) -> Iterator[Finding]:
    """Files that no list names are reported, also those that are not what they claim."""
    for name in sorted(names):
        with (folder / name).open("rb") as file:
            found = picture_format(file.read(16))
        claimed = "PNG" if name.lower().endswith(".png") else "JPEG"
        really = "" if found == claimed else f" (and really of format {found})"
        yield Finding(name, "", f"in no official list{really}")
