"""Chooses splits by the folders that examples lie in, and keeps small sets from lacking one."""

import collections
import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from petseg.conversion.choices import SPLITS
from petseg.conversion.sources.base import (
    SPLIT_OF,
    SourceOptions,
    check_fractions,
    hash_order,
    split_by_hash,
)
from petseg.conversion.spill import SpilledList
from petseg.data.manifest import Finding
from petseg.errors import shown

OUTSIDE = "in no folder of a split, unlike most others"  # a reason
_IGNORED = (
    "folder named like a split, but ignored; --train_list and the like keep splits of your own"
)
_TRAIN_AND_VALIDATION = "trainval"
CARVED = ", validation by a hash of each name"
_DECIDING = 4  # names at either end of a split; at most two of one are moved
# What folders of splits are called besides: train_images, val2017_masks.
_PLAIN = {
    *("image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "rgb"),
    *("mask", "masks", "label", "labels", "annotation", "annotations", "gt", "trimaps"),
    *("data", "dataset", "set", "split", "seg", "segmentation", "jpg", "png"),
}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def split_of_folder(name: str) -> str | None:
    """Returns the split that a folder is named after: 'val2017', 'Test', 'train_images'."""
    words = _words(name) - _PLAIN
    return SPLIT_OF.get(words.pop()) if len(words) == 1 else None


@dataclasses.dataclass(frozen=True)
class ChosenSplits:
    """How splits are chosen: by a function of each name, so that no name need be held.

    Attributes:
      split_of: Returns a name's split; None if it is left out, being OUTSIDE.
      split_by: In words.
      hashed: The splits that a hash of the names told apart.
    """

    split_of: Callable[[str], str | None]
    split_by: str
    hashed: tuple[str, ...] = ()


def choose_splits(
    names: Iterable[str],
    given: ChosenSplits | None,
    options: SourceOptions,
    rejected: list[Finding] | SpilledList[Finding],
) -> ChosenSplits:
    """Chooses splits as they are given, or else by folders, or else by a hash of each name.

    No split that a hash chooses is empty if another one can spare a name. If what is given, or
    folders, give no validation split, it is taken out of train by the hash.

    Args:
      names: All names; they are taken several times, one by one.
      given: What the data set says of its splits, if it does.
      options: The shares of validation and test; `test_fraction` is used for a hash alone, and
        if it is 1, all is test.
      rejected: Gets a finding for each folder that looks like a split and is none.

    Raises:
      UserError: The shares leave nothing to train on.
    """
    check_fractions(options.validation_fraction, options.test_fraction)
    validation = 0.0 if options.test_fraction == 1 else options.validation_fraction
    if not (chosen := given or by_folders(names, rejected)):
        return _by_hash(names, validation, options.test_fraction)
    if validation and not any(chosen.split_of(name) == "validation" for name in names):
        return _carve_validation(names, chosen, validation)
    return chosen


def by_folders(
    names: Iterable[str], rejected: list[Finding] | SpilledList[Finding]
) -> ChosenSplits | None:
    """Chooses the split of each name by the first of its folders that is named after one.

    Where no folder is called train, all that lies elsewhere is train; otherwise a few names
    outside of such folders are left out.

    Args:
      names: Paths within the source, joined by '/'.
      rejected: Gets a finding for each folder that looks like a split and is none.

    Returns:
      How, or None if folders do not tell.
    """
    count: collections.Counter[tuple[str | None, bool]] = collections.Counter()
    like: set[str] = set()
    for name in names:
        folder = name.rpartition("/")[0]
        count[_split_of_path(folder), _is_trainval(folder)] += 1
        like |= _like_splits(folder)
    splits = {split for split, _ in count if split}
    with_trainval = not splits & {"train", "validation"}

    def split_of(name: str) -> str | None:
        folder = name.rpartition("/")[0]
        return "train" if with_trainval and _is_trainval(folder) else _split_of_path(folder)

    inside = sum(
        n for (split, trainval), n in count.items() if split or (with_trainval and trainval)
    )
    outside = sum(count.values()) - inside
    if with_trainval and any(trainval for _, trainval in count):
        splits.add("train")
    if inside and outside and "train" not in splits:
        by = "sub-folders, train of all others"
        return ChosenSplits(lambda name: split_of(name) or "train", by)
    if inside and outside < inside:
        return ChosenSplits(split_of, "sub-folders")
    for folder in sorted(like):
        rejected.append(Finding(shown(folder), "", _IGNORED))
    return None


def _by_hash(
    names: Iterable[str], validation_fraction: float, test_fraction: float
) -> ChosenSplits:
    wanted = wanted_splits(validation_fraction, test_fraction)

    def hashed(name: str) -> str:
        return split_by_hash(name, validation_fraction, test_fraction)

    moved = _moved(((name, hashed(name)) for name in names), wanted)
    split_of = _or_hashed(moved, hashed)
    return ChosenSplits(split_of, "a hash of each name", tuple(wanted))


def carve(names_of_train: Iterable[str], fraction: float) -> Callable[[str], str]:
    """Takes validation out of train by a hash; one name at least, if there are two.

    Args:
      names_of_train: All names of train, once.
      fraction: The share, above 0 and below 1.

    Returns:
      A function: name of train -> 'train' or 'validation'.
    """

    def hashed(name: str) -> str:
        return split_by_hash(name, fraction, 0)

    moved = _moved(((name, hashed(name)) for name in names_of_train), ("train", "validation"))
    return _or_hashed(moved, hashed)


def _carve_validation(names: Iterable[str], chosen: ChosenSplits, fraction: float) -> ChosenSplits:
    train = (name for name in names if chosen.split_of(name) == "train")
    of_train = carve(train, fraction)

    def split_of(name: str) -> str | None:
        split = chosen.split_of(name)
        return of_train(name) if split == "train" else split

    return ChosenSplits(split_of, f"{chosen.split_by}{CARVED}", ("train", "validation"))


def _or_hashed(moved: Mapping[str, str], hashed: Callable[[str], str]) -> Callable[[str], str]:
    return lambda name: moved.get(name) or hashed(name)


def _moved(splits: Iterable[tuple[str, str]], wanted: Sequence[str]) -> dict[str, str]:
    """Returns name -> split for the few names that without_empty_splits moves.

    Of each split the first and last names in the order of hashes decide.

    Args:
      splits: Names with their splits; they are read until no wanted split is empty.
      wanted: See without_empty_splits.
    """
    first: dict[str, list[tuple[str, str]]] = {}
    last: dict[str, list[tuple[str, str]]] = {}
    for name, split in splits:
        ranked = (hash_order(name), name)
        first[split] = sorted([*first.get(split, []), ranked])[:_DECIDING]
        last[split] = sorted([*last.get(split, []), ranked])[-_DECIDING:]
        if first.keys() >= set(wanted):
            return {}
    deciding = {
        name: split
        for of_end in (first, last)
        for split, ranked in of_end.items()
        for _, name in ranked
    }
    filled = without_empty_splits(deciding, wanted)
    return {name: split for name, split in filled.items() if split != deciding[name]}


def without_empty_splits(splits: Mapping[str, str], wanted: Sequence[str]) -> dict[str, str]:
    """Moves one name into each wanted split that has none, if another split can spare it.

    The name is the next one in the order of hashes, in which validation comes first, then
    test, then train. Where no wanted split is empty, nothing moves.

    Args:
      splits: Name -> split.
      wanted: The splits that should not be empty, the most important first.
    """
    splits = dict(splits)
    ordered = sorted(splits, key=hash_order)
    for split in wanted:
        if split in splits.values():
            continue
        count = collections.Counter(splits.values())
        spare = [name for name in ordered if count[splits[name]] > 1]
        after = [name for name in spare if splits[name] == "train"]
        if (split == "train" and spare) or (split == "test" and spare and not after):
            splits[spare[-1]] = split
        elif spare:
            splits[(after if split == "test" else spare)[0]] = split
    return splits


def wanted_splits(validation_fraction: float, test_fraction: float) -> list[str]:
    """Returns the splits that two shares ask for, the most important first."""
    if test_fraction == 1:
        return ["test"]
    shares = {
        "train": 1 - validation_fraction - test_fraction,
        "validation": validation_fraction,
        "test": test_fraction,
    }
    return [split for split in SPLITS if shares[split] > 0]


def _words(name: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(name)}


@functools.lru_cache(1 << 14)
def _split_of_path(folder: str) -> str | None:
    return next((split for part in folder.split("/") if (split := split_of_folder(part))), None)


@functools.lru_cache(1 << 14)
def _is_trainval(folder: str) -> bool:
    return any(_words(part) - _PLAIN == {_TRAIN_AND_VALIDATION} for part in folder.split("/"))


@functools.lru_cache(1 << 14)
def _like_splits(folder: str) -> frozenset[str]:
    """Returns the folders in a path whose names hold a word for a split."""
    words = {*SPLIT_OF, _TRAIN_AND_VALIDATION}
    return frozenset(part for part in folder.split("/") if not _words(part).isdisjoint(words))
