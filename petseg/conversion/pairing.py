"""Pairs images with masks by the part that their names have in common."""

import collections
import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from etils import epath

from petseg.conversion import files, pairing_hints
from petseg.conversion.sources.base import FilePair, SeveralMasks, twins_finding
from petseg.data.manifest import Finding
from petseg.errors import UserError, shown

# Key -> paths of the pictures that have it, sorted.
ByKey = Mapping[str, list[str]]
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


def list_by_key(
    pattern: str, flag: str, rejected: list[Finding], *, by_folder: bool = False
) -> dict[str, list[str]]:
    """Lists the pictures of a folder or pattern by their key (files.list_pictures).

    Args:
      pattern: A folder, or a path with wildcards.
      flag: The flag that gave it.
      rejected: Gets a finding for each other file, and for hidden folders.
      by_folder: In a folder, the key of a file in a sub-folder is the sub-folder's path.

    Raises:
      UserError: There is no such folder, or no picture in it.
    """
    root = files.fixed_part(pattern)
    if not epath.Path(root).is_dir():
        raise UserError(f"--{flag}: {root} is not a folder")
    by_key: dict[str, list[str]] = collections.defaultdict(list)
    twins, hidden = 0, collections.Counter()
    suffixes = files.MASK_SUFFIXES if flag == "masks" else files.PICTURE_SUFFIXES
    for key, path in sorted(files.list_pictures(pattern, hidden, by_folder=by_folder)):
        name = path.rpartition("/")[2]
        if files.is_twin(name):
            twins += 1
        elif name.lower().endswith(suffixes):
            by_key[key].append(path)
        else:
            relative = path.removeprefix(root).lstrip("/")
            rejected.append(Finding(shown(relative), "", f"no picture by its suffix: in --{flag}"))
    if twins:
        rejected.append(twins_finding(twins, f"--{flag}"))
    for name, count in sorted(hidden.items()):
        reason = f"hidden folder, not read: {count:,} in --{flag}"
        rejected.append(Finding(shown(name), "", reason))
    if not by_key:
        raise UserError(f"--{flag}: {pattern} holds no picture ({', '.join(suffixes)})")
    return {key: sorted(by_key[key]) for key in sorted(by_key)}


def pair_by_name(
    images: ByKey, masks: ByKey, value_of: ValueOf | None = None
) -> tuple[dict[str, MaskedFile], dict[str, Finding]]:
    """Pairs each image with the mask of its key.

    Keys that differ only in how they write accents (Unicode's composed and decomposed forms)
    are equal, unless a folder holds both. Nothing else about one key depends on another one,
    so that parts of all keys may be paired by themselves if `composed` is equal within one.

    Args:
      images: From `told_apart`.
      masks: From `told_apart`.
      value_of: Merge all masks of one key; returns a mask's raw value, given its path.

    Returns:
      Key -> pair; key -> finding for the pictures of all other keys.
    """
    images, masks = _one_spelling(images, masks)
    pairs, unpaired = {}, {}
    for key in sorted(images.keys() | masks.keys()):
        of_key = images.get(key, []), masks.get(key, [])
        if reason := _why_no_pair(*of_key, is_merged=value_of is not None):
            unpaired[key] = Finding(shown(key), "", reason)
        elif value_of:
            pairs[key] = _merged(of_key[0][0], of_key[1], value_of)
        else:
            pairs[key] = FilePair(*(files.stored_file(path) for (path,) in of_key))
    return pairs, unpaired


def told_apart(images: ByKey, masks: ByKey) -> tuple[ByKey, ByKey]:
    """Takes pictures that are on both sides from the side that has more than them.

    A picture of one side that is also one of the other belongs to the narrower side:
    'F/*.png' and 'F/*_mask.png' give images without '_mask'.
    """
    of_images, of_masks = _identities(images), _identities(masks)
    both = of_images.keys() & of_masks.keys()
    wider = wider_side(len(both), len(of_images), len(of_masks))
    if wider == "images":
        images = _without(images, {of_images[one] for one in both})
    elif wider == "masks":
        masks = _without(masks, {of_masks[one] for one in both})
    return images, masks


def wider_side(both: int, images: int, masks: int) -> str | None:
    """Returns the side that loses the pictures that are on both, from the numbers of pictures."""
    if both and (both == masks) != (both == images):
        return "images" if both == masks else "masks"
    return None


def check_differ(images: ByKey, masks: ByKey, images_flag: str, masks_flag: str) -> None:
    """Raises UserError if the masks are the images; says how to tell them apart, if it can."""
    if _identities(images).keys() != _identities(masks).keys():
        return
    hint = pairing_hints.side_by_side(
        files.fixed_part(images_flag), _paths(images), pairs_every_image
    )
    hint = hint or "name the masks by a folder or pattern of their own"
    raise UserError(
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
    try:
        images = list_by_key(images_pattern, "images", [])
        masks = list_by_key(masks_pattern, "masks", [], by_folder=is_merged)
    except UserError:
        return False
    value_of = (lambda _: 1) if is_merged else None
    pairs, unpaired = pair_by_name(*told_apart(images, masks), value_of)
    return bool(pairs) and all(f.reason.startswith(_NO_IMAGE) for f in unpaired.values())


def mask_paths(pair: MaskedFile) -> list[str]:
    """Returns the paths of a pair's mask files."""
    masks = pair.masks if isinstance(pair, SeveralMasks) else (pair.mask,)
    return [mask.path for mask in masks]


def composed(name: str) -> str:
    """Returns a name with its accents in one way of writing them (Unicode's NFC)."""
    return unicodedata.normalize("NFC", name)


def _paths(by_key: ByKey) -> list[str]:
    return [path for paths in by_key.values() for path in paths]


def _without(by_key: ByKey, paths: Collection[str]) -> ByKey:
    left = {key: [path for path in of if path not in paths] for key, of in by_key.items()}
    return {key: of for key, of in left.items() if of}


def _identities(by_key: ByKey) -> dict[str, str]:
    """Returns the path without links to folders -> the path."""
    folders: dict[str, str] = {}
    identities = {}
    for path in _paths(by_key):
        folder, _, name = path.rpartition("/")
        if folder not in folders:
            folders[folder] = folder if "://" in folder else os.path.realpath(folder)
        identities[f"{folders[folder]}/{name}"] = path
    return identities


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


def _merged(image: str, masks: Sequence[str], value_of: ValueOf) -> SeveralMasks:
    """Returns an image with all its masks, in the order of their paths."""
    ordered = sorted(masks)
    stored = tuple(map(files.stored_file, ordered))
    return SeveralMasks(files.stored_file(image), stored, tuple(map(value_of, ordered)))


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
