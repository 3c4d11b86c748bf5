"""Makes the listing of an annotation source: splits are chosen as `folders` does for its pairs."""

import re
from collections.abc import Mapping

from petseg.conversion import files, split_lists, splits
from petseg.conversion.annotation_labels import Labels
from petseg.conversion.choices import SPLITS
from petseg.conversion.drawn_pair import DrawnPair
from petseg.conversion.pairing import ByKey
from petseg.conversion.sources.base import (
    SPLIT_OF,
    Pair,
    SourceExample,
    SourceListing,
    SourceOptions,
)
from petseg.conversion.splits import ChosenSplits, split_of_folder
from petseg.data.manifest import Finding
from petseg.errors import UserError, shown

# Those of petseg's options that every annotation source takes.
OPTIONS = (
    *("annotations", "images", "classes", "ignore_id", "test_fraction"),
    *(f"{split}_list" for split in SPLITS),
)
CLASS_NAME = "unlabelled"  # the images themselves have no classes
_WORD = re.compile(r"[A-Za-z]+")


def split_of_file(path: str, place: str) -> str:
    """Returns the split that a file is named after, else its folder; empty if none is.

    'instances_val2017.json' and 'valid/_annotations.coco.json' are of validation.

    Args:
      path: The file.
      place: The file, folder or pattern that the user named. What its folders are called says
        nothing: /home/dev/pets holds all splits.
    """
    root = files.fixed_part(place).rstrip("/")
    root = root.rpartition("/")[0] if path == root else root
    folders, _, name = path.removeprefix(root).lstrip("/").rpartition("/")
    words = (word.lower() for word in _WORD.findall(name.partition(".")[0]))
    splits = {SPLIT_OF[word] for word in words if word in SPLIT_OF}
    if len(splits) == 1:
        return splits.pop()
    return split_of_folder(folders.rpartition("/")[2]) or ""


def choose(
    pairs: dict[str, Pair],
    known: Mapping[str, str],
    known_by: str,
    options: SourceOptions,
    rejected: list[Finding],
    images: ByKey | None = None,
    masks: ByKey | None = None,
) -> ChosenSplits:
    """Chooses the split of each pair.

    In this order: by list files; by what the annotations say; by sub-folders; by a hash of
    each name, but so that no split is empty. Without a validation split, that is taken out of
    train by the hash.

    Args:
      pairs: Name -> pair; one that a line of a list makes is added, or replaces that by name.
      known: Name -> split, as the annotations say; where it is given for some, all others are
        of train.
      known_by: How they say so.
      options: Lists and fractions.
      rejected: Gets a finding for each pair that is left out.
      images: Name -> paths of images, for lists that name an image and its mask in each line.
      masks: Name -> paths of masks, likewise.

    Returns:
      How, for the names of all pairs; None for one that is left out.

    Raises:
      UserError: A list or a fraction is wrong.
    """
    given, names = None, pairs.keys()
    if lines := split_lists.read_lists(options.lists):
        lists, images, masks = options.lists, images or {}, masks or {}
        listed = split_lists.split_by_lists(lines, lists, pairs, images, masks, rejected)
        given, names = ChosenSplits(listed.get, "list files"), listed.keys()
    elif any(known.values()):
        given = ChosenSplits(lambda name: known.get(name) or "train", known_by)
    chosen = splits.choose_splits(names, given, options, rejected)
    outside = [name for name in names if chosen.split_of(name) is None]
    rejected += [Finding(shown(name), "", splits.OUTSIDE) for name in outside]
    return chosen


def examples_of(pairs: Mapping[str, Pair], chosen: ChosenSplits) -> tuple[SourceExample, ...]:
    """Returns the pairs that have a split, as examples without classes."""
    return tuple(
        SourceExample(name, split, pair, class_text=CLASS_NAME)
        for name, pair in pairs.items()
        if (split := chosen.split_of(name))
    )


def list_drawn(
    pairs: Mapping[str, DrawnPair],
    known: Mapping[str, str],
    known_by: str,
    labels: Labels,
    options: SourceOptions,
    rejected: list[Finding],
) -> SourceListing:
    """Returns the listing of an annotation source; see `choose`.

    Raises:
      UserError: There is no pair, or a list or fraction is wrong.
    """
    if not pairs:
        first = f"; the first: {rejected[0].name}: {rejected[0].reason}" if rejected else ""
        raise UserError(f"no image has an annotation{first}")
    chosen = choose(pairs, known, known_by, options, rejected)
    return SourceListing(
        examples_of(pairs, chosen),
        tuple(rejected),
        labels.rules,
        (CLASS_NAME,),
        chosen.split_by,
        chosen.hashed,
    )
