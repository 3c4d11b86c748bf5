"""Makes the listing of an annotation source: splits are chosen as `folders` does for its pairs."""

import re
from collections.abc import Mapping

from petseg.conversion import split_lists
from petseg.conversion.annotation_labels import Labels
from petseg.conversion.drawn_pair import DrawnPair
from petseg.conversion.pairing import ByKey
from petseg.conversion.sources.base import (
    SPLIT_OF,
    SPLITS,
    Pair,
    SourceExample,
    SourceListing,
    SourceOptions,
    check_fractions,
    split_by_hash,
)
from petseg.conversion.splits import (
    carve_validation,
    split_by_folders,
    split_of_folder,
    wanted_splits,
    without_empty_splits,
)
from petseg.data.manifest import Finding
from petseg.errors import UserError

# Those of petseg's options that every annotation source takes.
OPTIONS = (
    *("annotations", "images", "classes", "ignore_id", "test_fraction"),
    *(f"{split}_list" for split in SPLITS),
)
_CLASS_NAME = "unlabelled"  # the images themselves have no classes
_WORD = re.compile(r"[A-Za-z]+")


def split_of_file(path: str) -> str:
    """Returns the split that a file is named after, else its folder; empty if none is.

    'instances_val2017.json' and 'valid/_annotations.coco.json' are of validation.
    """
    folders, _, name = path.rpartition("/")
    words = (word.lower() for word in _WORD.findall(name.partition(".")[0]))
    splits = {SPLIT_OF[word] for word in words if word in SPLIT_OF}
    if len(splits) == 1:
        return splits.pop()
    return split_of_folder(folders.rpartition("/")[2]) or ""


def choose_splits(
    pairs: Mapping[str, Pair],
    known: Mapping[str, str],
    known_by: str,
    options: SourceOptions,
    rejected: list[Finding],
    images: ByKey | None = None,
    masks: ByKey | None = None,
) -> tuple[dict[str, str], str]:
    """Chooses the split of each pair.

    In this order: by list files; by what the annotations say; by sub-folders; by a hash of
    each name, but so that no split is empty. Without a validation split, that is taken out of
    train by the hash.

    Args:
      pairs: Name -> pair, at least one.
      known: Name -> split, as the annotations say; where it is given for some, all others are
        of train.
      known_by: How they say so.
      options: Lists and fractions.
      rejected: Gets a finding for each pair that is left out.
      images: Name -> paths of images, for lists that name an image and its mask in each line.
      masks: Name -> paths of masks, likewise.

    Returns:
      Name -> split; and in words how they were chosen.

    Raises:
      UserError: A list or a fraction is wrong.
    """
    test_fraction = options.test_fraction
    check_fractions(options.validation_fraction, test_fraction)
    validation_fraction = 0.0 if test_fraction == 1 else options.validation_fraction
    if lines := split_lists.read_lists(options.lists):
        lists, images, masks = options.lists, images or {}, masks or {}
        splits = split_lists.split_by_lists(lines, lists, dict(pairs), images, masks, rejected)
        split_by = "list files"
    elif any(known.values()):
        splits = {name: known.get(name) or "train" for name in pairs}
        split_by = known_by
    else:
        splits, split_by = split_by_folders(pairs, rejected)
    if not splits:
        by_hash = {name: split_by_hash(name, validation_fraction, test_fraction) for name in pairs}
        wanted = wanted_splits(validation_fraction, test_fraction)
        splits, split_by = without_empty_splits(by_hash, wanted), "a hash of each name"
    if "validation" not in splits.values() and validation_fraction:
        splits = carve_validation(splits, validation_fraction)
        split_by += ", validation by a hash of each name"
    return splits, split_by


def list_drawn(
    pairs: Mapping[str, DrawnPair],
    known: Mapping[str, str],
    known_by: str,
    labels: Labels,
    options: SourceOptions,
    rejected: list[Finding],
) -> SourceListing:
    """Returns the listing of an annotation source; see `choose_splits`.

    Raises:
      UserError: There is no pair, or a list or fraction is wrong.
    """
    if not pairs:
        first = f"; the first: {rejected[0].name}: {rejected[0].reason}" if rejected else ""
        raise UserError(f"no image has an annotation{first}")
    splits, split_by = choose_splits(pairs, known, known_by, options, rejected)
    examples = tuple(
        SourceExample(name, split, pairs[name], class_text=_CLASS_NAME)
        for name, split in splits.items()
    )
    return SourceListing(examples, tuple(rejected), labels.rules, (_CLASS_NAME,), split_by)
