"""The images and masks of folders or patterns, by the keys that pair them."""

import collections
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping

from etils import epath

from petseg.conversion import files, spill
from petseg.conversion.sources.base import twins_finding
from petseg.conversion.spill import Buckets, SpilledList
from petseg.data.manifest import Finding
from petseg.errors import UserError, shown

# Key -> paths of the pictures that have it, sorted.
ByKey = Mapping[str, list[str]]
IMAGES, MASKS = "images", "masks"  # the sides, and the flags that name them
_NEITHER = "neither"


class PictureTable:
    """The images and masks of a data set by their keys, of which a part at a time is in memory."""

    def __init__(self):
        """Begins without pictures; see spill.Buckets."""
        self._buckets: Buckets[tuple[str, str, str]] = Buckets()
        self._folders: dict[str, dict[str, str]] = {IMAGES: {}, MASKS: {}}

    def add(self, side: str, key: str, path: str) -> None:
        """Adds a picture of IMAGES or MASKS."""
        digest = spill.hash_of(composed(key))
        self._buckets.add(digest, (side, key, path))
        folder = path.rpartition("/")[0]
        if folder not in self._folders[side]:
            real = folder if "://" in folder else os.path.realpath(folder)
            self._folders[side][folder] = real

    def add_all(
        self,
        images: str,
        masks: str,
        rejected: list[Finding] | SpilledList[Finding],
        *,
        is_merged: bool = False,
    ) -> None:
        """Adds the pictures of two folders or patterns; see list_keys."""
        for side, pattern, by_folder in ((IMAGES, images, False), (MASKS, masks, is_merged)):
            for key, path in list_keys(pattern, side, rejected, by_folder=by_folder):
                self.add(side, key, path)

    def buckets(self) -> Iterator[tuple[ByKey, ByKey]]:
        """Yields images and masks of some keys at a time, by key, with sorted paths."""
        for _, items in self._buckets:
            by_side: dict[str, dict[str, list[str]]] = {IMAGES: {}, MASKS: {}}
            for side, key, path in sorted(item for _, item in items):
                by_side[side].setdefault(key, []).append(path)
            yield by_side[IMAGES], by_side[MASKS]

    def whole(self) -> tuple[ByKey, ByKey]:
        """Returns images and masks of all keys."""
        images: dict[str, list[str]] = {}
        masks: dict[str, list[str]] = {}
        for some_images, some_masks in self.buckets():
            images |= some_images
            masks |= some_masks
        return dict(sorted(images.items())), dict(sorted(masks.items()))

    def paths(self, side: str) -> Iterator[str]:
        """Yields the paths of one side."""
        for _, items in self._buckets:
            yield from (path for _, (of, _, path) in items if of == side)

    def told_apart(self) -> "PictureTable | None":
        """Takes pictures that are on both sides from the side that has more than them.

        A picture of one side that is also one of the other belongs to the narrower side:
        'F/*.png' and 'F/*_mask.png' give images without '_mask'. None if the images are the
        masks.
        """
        wider, by_path = self._compared()
        if wider is None or wider == _NEITHER:
            return self if wider is None else None
        table = PictureTable()
        for _, items in by_path:
            both = _on_both_sides(items)
            for _, (side, key, path, real) in items:
                if side != wider or real not in both:
                    table.add(side, key, path)
        return table

    def _compared(self) -> tuple[str | None, Buckets[tuple[str, str, str, str]]]:
        """Returns the side that has more than the pictures on both, and all by their real paths.

        _NEITHER in place of a side if both have the same pictures.
        """
        by_path: Buckets[tuple[str, str, str, str]] = Buckets()
        real_folders = [set(of_side.values()) for of_side in self._folders.values()]
        if real_folders[0].isdisjoint(real_folders[1]):
            return None, by_path
        for _, items in self._buckets:
            for _, (side, key, path) in items:
                folder, _, name = path.rpartition("/")
                real = f"{self._folders[side][folder]}/{name}"
                digest = spill.hash_of(real)
                by_path.add(digest, (side, key, path, real))
        of_images = of_masks = both = 0
        for _, items in by_path:
            of_images += len(_real_paths(items, IMAGES))
            of_masks += len(_real_paths(items, MASKS))
            both += len(_on_both_sides(items))
        if not both or both not in (of_images, of_masks):
            return None, by_path
        if of_images == of_masks:
            return _NEITHER, by_path
        return IMAGES if both == of_masks else MASKS, by_path


_Real = Iterable[tuple[bytes, tuple[str, str, str, str]]]


def _real_paths(items: _Real, of_side: str) -> set[str]:
    return {real for _, (side, _, _, real) in items if side == of_side}


def _on_both_sides(items: _Real) -> set[str]:
    return _real_paths(items, IMAGES) & _real_paths(items, MASKS)


def list_keys(
    pattern: str, flag: str, rejected: list[Finding] | SpilledList[Finding], *, by_folder: bool
) -> Iterator[tuple[str, str]]:
    """Yields the pictures of a folder or pattern with their keys (files.list_pictures).

    Args:
      pattern: A folder, or a path with wildcards.
      flag: The flag that gave it.
      rejected: Gets a finding for each other file, and for hidden folders.
      by_folder: In a folder, the key of a file in a sub-folder is the sub-folder's path.

    Yields:
      (key, path) in any order.

    Raises:
      UserError: There is no such folder, or no picture in it.
    """
    root = files.fixed_part(pattern)
    if not epath.Path(root).is_dir():
        raise UserError(f"--{flag}: {root} is not a folder")
    found, twins, hidden = 0, 0, collections.Counter()
    suffixes = files.MASK_SUFFIXES if flag == "masks" else files.PICTURE_SUFFIXES
    others: SpilledList[str] = SpilledList()
    for key, path in files.list_pictures(pattern, hidden, by_folder=by_folder):
        name = path.rpartition("/")[2]
        if files.is_twin(name):
            twins += 1
        elif name.lower().endswith(suffixes):
            found += 1
            yield key, path
        else:
            others.append(path.removeprefix(root).lstrip("/"))
    for relative in sorted(others):
        rejected.append(Finding(shown(relative), "", f"no picture by its suffix: in --{flag}"))
    if twins:
        rejected.append(twins_finding(twins, f"--{flag}"))
    for name, count in sorted(hidden.items()):
        reason = f"hidden folder, not read: {count:,} in --{flag}"
        rejected.append(Finding(shown(name), "", reason))
    if not found:
        raise UserError(f"--{flag}: {pattern} holds no picture ({', '.join(suffixes)})")


def list_by_key(pattern: str, flag: str, rejected: list[Finding]) -> dict[str, list[str]]:
    """Returns key -> sorted paths, for all pictures of a folder or pattern; see list_keys."""
    by_key: dict[str, list[str]] = {}
    for key, path in sorted(list_keys(pattern, flag, rejected, by_folder=False)):
        by_key.setdefault(key, []).append(path)
    return by_key


def composed(name: str) -> str:
    """Returns a name with its accents in one way of writing them (Unicode's NFC)."""
    return unicodedata.normalize("NFC", name)
