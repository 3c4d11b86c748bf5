"""Patterns of names with several wildcards, or with {any}, that would pair images with masks."""

import collections
import re
from collections.abc import Collection, Iterator

from petseg.conversion import files

# Patterns of the names of images and of masks, and whether masks would be merged.
Proposal = tuple[str, str, bool]

_SEPARATOR = re.compile(r"[_\-. ]")
_SPECIAL = re.compile(r"[*?\[{]")
_MOST_MASKS = 50  # compared with the first image


def propose(images: Collection[str], masks: Collection[str]) -> Iterator[Proposal]:
    """Yields patterns under which each image has a key of its own that a mask has, too.

    Args:
      images: The images' names, without folders and suffixes.
      masks: Likewise, of the masks.

    Yields:
      Patterns, those that leave the least of a name out of the key first.
    """
    for image_name, mask_name in _candidates(images, masks):
        image_keys = _keys(images, image_name)
        if None in image_keys or len(set(image_keys)) < len(image_keys):
            continue
        of_masks = collections.Counter(_keys(masks, mask_name))
        if of_masks.keys() >= set(image_keys):
            yield image_name, mask_name, any(of_masks[key] > 1 for key in image_keys)
    if not images <= masks:  # where folders alone tell which masks are an image's
        yield files.ANY, files.ANY, False
        yield files.ANY, files.ANY, True


def has_no_key(name: str) -> bool:
    """Whether a pattern of names leaves all of a name out of the key."""
    return "*" not in name


def _candidates(images: Collection[str], masks: Collection[str]) -> Iterator[tuple[str, str]]:
    image = min(images, key=lambda name: (len(name), name))
    for mask in sorted(masks, key=lambda name: (len(name), name))[:_MOST_MASKS]:
        yield from _infixes(image, mask)
    for image_name in _open_ended(images):
        for mask_name in _open_ended(masks):
            if (image_name, mask_name) != ("*", "*"):
                yield image_name, mask_name


def _infixes(image: str, mask: str) -> Iterator[tuple[str, str]]:
    """Yields '*_*' and '*_road_*' for um_1 and um_road_1: what differs is within the names."""
    for match in _SEPARATOR.finditer(image):
        before = image[: match.start()]
        for other in _SEPARATOR.finditer(image, match.start()):
            after, middle = image[other.end() :], image[match.start() : other.end()]
            if not (before and after and mask.startswith(before) and mask.endswith(after)):
                continue
            inserted = mask[len(before) : len(mask) - len(after)]
            if len(inserted) >= 1 and not _SPECIAL.search(middle + inserted):
                yield f"*{middle}*", f"*{inserted}*"


def _open_ended(names: Collection[str]) -> list[str]:
    """Returns '*', and what leaves the first or last word of each name out of the key."""
    found = ["*"]
    for separator in sorted({text for name in names for text in _SEPARATOR.findall(name)}):
        lasts = {name.rpartition(separator)[2] for name in names}
        firsts = {name.partition(separator)[0] for name in names}
        last = lasts.pop() if len(lasts) == 1 else files.ANY
        first = firsts.pop() if len(firsts) == 1 else files.ANY
        if all(separator in name for name in names):
            found += [f"*{separator}{last}", f"{first}{separator}*"]
    return [
        name for name in found if not _SPECIAL.search(name.replace(files.ANY, "").replace("*", ""))
    ]


def _keys(names: Collection[str], pattern: str) -> list[str | None]:
    """Returns each name's key under a pattern of names; None if that does not match it."""
    expression = re.compile(files.to_regex(pattern))
    matches = map(expression.fullmatch, names)
    return [files.key_of(match) if match else None for match in matches]
