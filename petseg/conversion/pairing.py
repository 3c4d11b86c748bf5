"""Pairs images with masks by the part that their names have in common."""

import collections
import os
import unicodedata
from collections.abc import Collection, Mapping

from etils import epath

from petseg.conversion import files, pairing_hints
from petseg.conversion.sources.base import FilePair, twins_finding
from petseg.data.manifest import Finding
from petseg.errors import UserError, shown

# Key -> paths of the pictures that have it, sorted.
ByKey = Mapping[str, list[str]]

_NO_MASK, _NO_IMAGE = "image without a mask of its name", "mask without an image of its name"
_SEVERAL_IMAGES, _SEVERAL_MASKS = "several images of one name", "several masks of one name"
ITSELF = "its mask is the image's own file"
# The reasons that leave a picture without its partner; a colon and names may follow.
NO_PAIR = (_NO_MASK, _NO_IMAGE, _SEVERAL_IMAGES, _SEVERAL_MASKS, ITSELF)


def list_by_key(pattern: str, flag: str, rejected: list[Finding]) -> dict[str, list[str]]:
    """Lists the pictures of a folder or pattern by their key (files.list_pictures).

    Args:
      pattern: A folder, or a path with wildcards.
      flag: The flag that gave it.
      rejected: Gets a finding for each other file, and for hidden folders.

    Raises:
      UserError: There is no such folder, or no picture in it.
    """
    root = files.fixed_part(pattern)
    if not epath.Path(root).is_dir():
        raise UserError(f"--{flag}: {root} is not a folder")
    by_key: dict[str, list[str]] = collections.defaultdict(list)
    twins, hidden = 0, collections.Counter()
    for key, path in sorted(files.list_pictures(pattern, hidden)):
        name = path.rpartition("/")[2]
        if files.is_twin(name):
            twins += 1
        elif files.is_picture_name(name):
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
        raise UserError(
            f"--{flag}: {pattern} holds no picture ({', '.join(files.PICTURE_SUFFIXES)})"
        )
    return {key: sorted(by_key[key]) for key in sorted(by_key)}


def pair_by_name(images: ByKey, masks: ByKey) -> tuple[dict[str, FilePair], dict[str, Finding]]:
    """Pairs each image with the mask of its key.

    Keys that differ only in how they write accents (Unicode's composed and decomposed forms)
    are equal, unless a folder holds both. A picture of one side that is also one of the other
    belongs to the narrower side: 'F/*.png' and 'F/*_mask.png' give images without '_mask'.

    Returns:
      Key -> pair; key -> finding for the pictures of all other keys.
    """
    images, masks = _told_apart(images, masks)
    images, masks = _one_spelling(images, masks)
    pairs, unpaired = {}, {}
    for key in sorted(images.keys() | masks.keys()):
        if reason := _why_no_pair(images.get(key, []), masks.get(key, [])):
            unpaired[key] = Finding(shown(key), "", reason)
        else:
            (image,), (mask,) = images[key], masks[key]
            pairs[key] = FilePair(files.stored_file(image), files.stored_file(mask))
    return pairs, unpaired


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


def nothing_pairs(images: ByKey, masks: ByKey, images_flag: str, masks_flag: str) -> UserError:
    """Returns why no image has a mask, and patterns that pair every image if there are any."""
    hint = pairing_hints.renamed(
        (files.fixed_part(images_flag), _paths(images)),
        (files.fixed_part(masks_flag), _paths(masks)),
        images_flag,
        pairs_every_image,
    )
    return UserError(
        f"no image of {images_flag} has a mask in {masks_flag}: the first image is called "
        f"{shown(next(iter(images)))!r}, the first mask {shown(next(iter(masks)))!r}; "
        + (hint or "names must agree but for the suffix, or where patterns have wildcards")
    )


def pairs_every_image(images_pattern: str, masks_pattern: str) -> bool:
    """Whether two folders or patterns pair each image with one mask."""
    try:
        images = list_by_key(images_pattern, "images", [])
        masks = list_by_key(masks_pattern, "masks", [])
    except UserError:
        return False
    pairs, unpaired = pair_by_name(images, masks)
    return bool(pairs) and all(f.reason.startswith(_NO_IMAGE) for f in unpaired.values())


def composed(name: str) -> str:
    """Returns a name with its accents in one way of writing them (Unicode's NFC)."""
    return unicodedata.normalize("NFC", name)


def _paths(by_key: ByKey) -> list[str]:
    return [path for paths in by_key.values() for path in paths]


def _told_apart(images: ByKey, masks: ByKey) -> tuple[ByKey, ByKey]:
    """Takes pictures that are on both sides from the side that has more than them."""
    of_images, of_masks = _identities(images), _identities(masks)
    both = of_images.keys() & of_masks.keys()
    if both and both == of_masks.keys() and both != of_images.keys():
        images = _without(images, {of_images[one] for one in both})
    elif both and both == of_images.keys() and both != of_masks.keys():
        masks = _without(masks, {of_masks[one] for one in both})
    return images, masks


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


def _why_no_pair(images: list[str], masks: list[str]) -> str | None:
    for several, paths in ((_SEVERAL_IMAGES, images), (_SEVERAL_MASKS, masks)):
        if len(paths) > 1:
            return f"{several}: {', '.join(shown(path.rpartition('/')[2]) for path in paths)}"
    if not masks:
        return _NO_MASK
    if not images:
        return _NO_IMAGE
    return ITSELF if is_same_file(images[0], masks[0]) else None


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
