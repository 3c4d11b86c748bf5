"""Pairs images with masks by the part that their names have in common."""

import collections
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from petseg.conversion import files, pairing_hints
from petseg.conversion.picture_table import ByKey, PictureTable, composed
from petseg.conversion.sources.base import FilePair, SeveralMasks
from petseg.data.manifest import Finding
from petseg.errors import UserError, shown

MaskedFile = FilePair | SeveralMasks
ValueOf = Callable[[str], int]

_NO_MASK, _NO_IMAGE = "image without a mask of its name", "mask without an image of its name"
_SEVERAL_IMAGES = "several images of one name"
_SEVERAL_MASKS = "several masks of one name, which --several_masks would merge"
_NAMED = 8  # files, in a reason
_MERGE = "; several masks an image: --several_masks, or {class} in --masks, merges them"
ITSELF = "its mask is the image's own file"
# The reasons that leave a picture without its partner; a colon and names may follow.
NO_PAIR = (_NO_MASK, _NO_IMAGE, _SEVERAL_IMAGES, _SEVERAL_MASKS, ITSELF)


def match_keys(
    images: ByKey, masks: ByKey, *, is_merged: bool = False
) -> tuple[dict[str, tuple[str, list[str]]], dict[str, Finding]]:
    """Matches each image with the mask of its key.

    Keys that differ only in how they write accents (Unicode's composed and decomposed forms)
    are equal, unless a folder holds both. Nothing else about one key depends on another one,
    so that parts of all keys may be matched by themselves if `composed` is equal within one.

    Args:
      images: Of PictureTable.told_apart.
      masks: Likewise.
      is_merged: Take all masks of one key.

    Returns:
      Key -> image and masks, sorted; key -> finding for the pictures of all other keys.
    """
    images, masks = _one_spelling(images, masks)
    matched, unpaired = {}, {}
    for key in sorted(images.keys() | masks.keys()):
        of_key = images.get(key, []), masks.get(key, [])
        if reason := _why_no_pair(*of_key, is_merged=is_merged):
            unpaired[key] = Finding(shown(key), "", reason)
        else:
            matched[key] = of_key[0][0], of_key[1]
    return matched, unpaired


def to_pair(image: str, masks: Sequence[str], value_of: ValueOf | None = None) -> MaskedFile:
    """Returns an image with its mask, or with all its masks, in the order of their paths.

    Args:
      image: Its path.
      masks: Their paths, sorted.
      value_of: Merge all masks; returns a mask's raw value, given its path.
    """
    stored = tuple(map(files.stored_file, masks))
    if not value_of:
        return FilePair(files.stored_file(image), *stored)
    return SeveralMasks(files.stored_file(image), stored, tuple(map(value_of, masks)))


def same_pictures(images: ByKey, images_flag: str, masks_flag: str) -> UserError:
    """Returns that the masks are the images; says how to tell them apart, if it can."""
    hint = pairing_hints.side_by_side(
        files.fixed_part(images_flag), _paths(images), pairs_every_image
    )
    hint = hint or "name the masks by a folder or pattern of their own"
    return UserError(
        f"--images={images_flag} and --masks={masks_flag} name the same pictures, so that each "
        f"image would be its own mask; {hint}"
    )


def nothing_pairs(
    images: ByKey,
    masks: ByKey,
    images_flag: str,
    masks_flag: str,
    unpaired: Mapping[str, Finding],
) -> UserError:
    """Returns why no image has a mask, and patterns that pair every image if there are any.

    Args:
      images: Key -> paths of the images.
      masks: Likewise, of the masks.
      images_flag: What --images was.
      masks_flag: What --masks was.
      unpaired: Key -> why not; if most images have another reason than their names, it is
        given.
    """
    of_images = [finding for key, finding in unpaired.items() if key in images]
    reason, count, example = most_common_reason(of_images, besides=[_NO_MASK])
    if 2 * count >= len(images):
        return UserError(
            f"no image of {images_flag} can be paired with a mask of {masks_flag}; "
            f"{count:,} of {len(images):,} have {reason}, such as {example}"
        )
    hint = pairing_hints.renamed(
        pairing_hints.Side(images_flag, files.fixed_part(images_flag), _paths(images)),
        pairing_hints.Side(masks_flag, files.fixed_part(masks_flag), _paths(masks)),
        pairs_every_image,
    )
    hint = hint or "names must agree but for the suffix, or where patterns have wildcards"
    if len(masks) >= 2 * len(images) and "--several_masks" not in hint:
        hint += _MERGE
    return UserError(
        f"no image of {images_flag} has a mask in {masks_flag}: the first image is called "
        f"{shown(next(iter(images)))!r}, the first mask {shown(next(iter(masks)))!r}; {hint}"
    )


def most_common_reason(
    findings: Iterable[Finding], besides: Collection[str] = ()
) -> tuple[str, int, str]:
    """Returns the commonest reason, how many have it, and the first of them by name.

    Args:
      findings: Inputs that are not converted.
      besides: Reasons that are not counted.
    """
    count: collections.Counter = collections.Counter()
    first: dict[str, str] = {}
    for finding in findings:
        reason = finding.reason.partition(": ")[0]
        if reason not in besides:
            count[reason] += 1
            first.setdefault(reason, finding.name)
    if not count:
        return "", 0, ""
    ((reason, number),) = count.most_common(1)
    return reason, number, first[reason]


def pairs_every_image(images_pattern: str, masks_pattern: str, is_merged: bool = False) -> bool:
    """Whether two folders or patterns pair each image with one mask, or with one at least."""
    table = PictureTable()
    try:
        table.add_all(images_pattern, masks_pattern, [], is_merged=is_merged)
    except UserError:
        return False
    is_any = False
    told_apart = table.told_apart()
    for images, masks in told_apart.buckets() if told_apart else ():
        matched, unpaired = match_keys(images, masks, is_merged=is_merged)
        if not all(finding.reason.startswith(_NO_IMAGE) for finding in unpaired.values()):
            return False
        is_any = is_any or bool(matched)
    return is_any


def mask_paths(pair: MaskedFile) -> list[str]:
    """Returns the paths of a pair's mask files."""
    masks = pair.masks if isinstance(pair, SeveralMasks) else (pair.mask,)
    return [mask.path for mask in masks]


def _paths(by_key: ByKey) -> list[str]:
    return [path for paths in by_key.values() for path in paths]


def _one_spelling(images: ByKey, masks: ByKey) -> tuple[ByKey, ByKey]:
    """Renames keys without a partner to their composed form, if that gives them one."""
    lonely = [
        [key for key in of if key not in other and not key.isascii()]
        for of, other in ((images, masks), (masks, images))
    ]
    counts = [collections.Counter(map(composed, keys)) for keys in lonely]
    common = {key for key in counts[0] if counts[0][key] == counts[1][key] == 1}
    common -= images.keys() & masks.keys()
    images, masks = (
        {composed(key) if key in keys and composed(key) in common else key: of[key] for key in of}
        for of, keys in zip((images, masks), map(set, lonely), strict=True)
    )
    return images, masks


def _why_no_pair(images: list[str], masks: list[str], *, is_merged: bool) -> str | None:
    for several, paths in ((_SEVERAL_IMAGES, images), (_SEVERAL_MASKS, masks)):
        if len(paths) > 1 and not (is_merged and paths is masks):
            names = [shown(path.rpartition("/")[2]) for path in paths[:_NAMED]]
            more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
            return f"{several}: {', '.join(names)}{more}"
    if not masks:
        return _NO_MASK
    if not images:
        return _NO_IMAGE
    return ITSELF if any(is_same_file(images[0], mask) for mask in masks) else None


def is_same_file(image: str, mask: str) -> bool:
    """Whether two paths are one file, directly or by a link."""
    if image == mask:
        return True
    if "://" in image or "://" in mask or not (os.path.islink(image) or os.path.islink(mask)):
        return False
    try:
        return os.path.samefile(image, mask)
    except OSError:  # reading it will say why
        return False
