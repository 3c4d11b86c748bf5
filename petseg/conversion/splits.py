"""Chooses splits by the folders that examples lie in, and keeps small sets from lacking one."""

import collections
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from petseg.conversion.sources.base import SPLIT_OF, SPLITS, hash_order, split_by_hash
from petseg.data.manifest import Finding
from petseg.errors import shown

OUTSIDE = "in no folder of a split, unlike most others"  # a reason
_IGNORED = (
    "folder named like a split, but ignored; --train_list and the like keep splits of your own"
)
_TRAIN_AND_VALIDATION = "trainval"
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


def split_by_folders(keys: Collection[str], rejected: list[Finding]) -> tuple[dict[str, str], str]:
    """Chooses the split of each key by the first of its folders that is named after one.

    Where no folder is called train, all that lies elsewhere is train; otherwise a few keys
    outside of such folders are rejected.

    Args:
      keys: Paths within the source, joined by '/'.
      rejected: Gets a finding for each key left out, and for folders that look like a split
        and are none.

    Returns:
      Key -> split, empty if folders do not tell; and in words how they were chosen.
    """
    splits = {key: split for key in keys if (split := _split_of_key(key))}
    if not {"train", "validation"} & set(splits.values()):
        splits |= {key: "train" for key in keys if _is_trainval(key)}
    outside = [key for key in keys if key not in splits]
    if splits and outside and "train" not in splits.values():
        return {key: splits.get(key, "train") for key in keys}, "sub-folders, train of all others"
    if splits and len(outside) < len(splits):
        rejected += [Finding(shown(key), "", OUTSIDE) for key in outside]
        return {key: splits[key] for key in keys if key in splits}, "sub-folders"
    ignored = sorted({part for key in keys for part in _folders(key) if _is_like(part)})
    rejected += [Finding(shown(part), "", _IGNORED) for part in ignored]
    return {}, ""


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


def carve_validation(splits: Mapping[str, str], fraction: float) -> dict[str, str]:
    """Takes a share out of train by a hash of each name; one name at least, if there are two.

    Args:
      splits: Name -> split, without validation.
      fraction: The share, above 0 and below 1.
    """
    train = {n: split_by_hash(n, fraction, 0) for n, of in splits.items() if of == "train"}
    return {**splits, **without_empty_splits(train, ("train", "validation"))}


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


def _folders(key: str) -> Iterable[str]:
    return key.split("/")[:-1]


def _split_of_key(key: str) -> str | None:
    return next((split for part in _folders(key) if (split := split_of_folder(part))), None)


def _is_trainval(key: str) -> bool:
    return any(_words(part) - _PLAIN == {_TRAIN_AND_VALIDATION} for part in _folders(key))


def _is_like(folder: str) -> bool:
    return not _words(folder).isdisjoint({*SPLIT_OF, _TRAIN_AND_VALIDATION})
