"""The source `folders`: any images and masks that pair by name."""

import collections
from collections.abc import Mapping

from etils import epath

from petseg.conversion import files
from petseg.conversion.sources.base import (
    SPLIT_OF,
    SPLITS,
    FilePair,
    Source,
    SourceExample,
    SourceListing,
    SourceOptions,
    check_fractions,
    split_by_hash,
    twins_finding,
)
from petseg.data.manifest import Finding
from petseg.errors import UserError, shown

CLASS_NAMES = ("unlabelled",)  # the images themselves have no classes


def list_folders(options: SourceOptions) -> SourceListing:
    """Pairs images with masks by the part that their names have in common.

    A name's key is its path in the folder without the suffix, or what its pattern's
    wildcards stand for (files.list_pictures). The splits come, in this order, from list
    files; from sub-folders called train, val, test or the like, if every pair lies in
    one; or from a hash of each name. If lists or sub-folders give no validation split, it
    is taken out of train by the hash.

    Args:
      options: `images` and `masks` are folders or patterns with wildcards, local or
        remote; by default raw_dir/images and raw_dir/masks. A file of `lists` has one name
        per line. `test_fraction` is used only without lists and sub-folders.

    Raises:
      UserError: A folder is missing or contains no picture, a list cannot be read, or no
        image has a mask.
    """
    validation_fraction, lists = options.validation_fraction, options.lists
    check_fractions(validation_fraction, options.test_fraction)
    images, masks = _patterns(options)
    rejected: list[Finding] = []
    image_paths = _by_key(images, "images", rejected)
    mask_paths = _by_key(masks, "masks", rejected)
    pairs = _pair(image_paths, mask_paths, images, masks, rejected)
    if lists:
        splits, split_by = _by_lists(pairs, lists, rejected), "list files"
    elif all(_folder_split(key) for key in pairs):
        splits, split_by = {key: _folder_split(key) for key in pairs}, "sub-folders"
    else:
        splits = {
            key: split_by_hash(key, validation_fraction, options.test_fraction) for key in pairs
        }
        split_by = "a hash of each name"
    if "validation" not in splits.values() and validation_fraction:
        splits = {
            key: split_by_hash(key, validation_fraction, 0) if split == "train" else split
            for key, split in splits.items()
        }
        split_by += ", validation by a hash of each name"
    examples = tuple(
        SourceExample(key, split, pairs[key], class_text=CLASS_NAMES[0])
        for key, split in splits.items()
    )
    return SourceListing(examples, tuple(rejected), options.mask_rules, CLASS_NAMES, split_by)


FOLDERS = Source(
    list_examples=list_folders,
    options=(
        *("images", "masks", "classes", "ignore_id", "test_fraction"),
        *(f"{split}_list" for split in SPLITS),
    ),
)


def _patterns(options: SourceOptions) -> tuple[str, str]:
    """Returns the folders or patterns of images and of masks."""
    for flag in () if options.raw_dir else ("images", "masks"):
        if not getattr(options, flag):
            raise UserError(
                f"--source=folders needs --{flag}, or --raw_dir=DIR with images/ and masks/ in it"
            )
    return (
        options.images or f"{options.raw_dir}/images",
        options.masks or f"{options.raw_dir}/masks",
    )


def _by_key(pattern: str, flag: str, rejected: list[Finding]) -> dict[str, list[str]]:
    """Returns key -> paths of its pictures; other files are rejected."""
    root = files.fixed_part(pattern)
    if not epath.Path(root).is_dir():
        raise UserError(f"--{flag}: {root} is not a folder")
    by_key: dict[str, list[str]] = collections.defaultdict(list)
    twins = 0
    for key, path in sorted(files.list_pictures(pattern)):
        name = path.rpartition("/")[2]
        if files.is_twin(name):
            twins += 1
        elif files.is_picture_name(name):
            by_key[key].append(path)
        else:
            relative = path.removeprefix(root).lstrip("/")
            rejected.append(Finding(shown(relative), "", f"in --{flag}: no picture by its suffix"))
    if twins:
        rejected.append(twins_finding(twins, f"--{flag}"))
    if not by_key:
        raise UserError(
            f"--{flag}: {pattern} holds no picture ({', '.join(files.PICTURE_SUFFIXES)})"
        )
    return {key: sorted(by_key[key]) for key in sorted(by_key)}


def _pair(
    images: Mapping[str, list[str]],
    masks: Mapping[str, list[str]],
    images_flag: str,
    masks_flag: str,
    rejected: list[Finding],
) -> dict[str, FilePair]:
    if not images.keys() & masks.keys():
        raise UserError(_nothing_pairs(next(iter(images)), masks, images_flag, masks_flag))
    pairs = {}
    for key in sorted(images.keys() | masks.keys()):
        if reason := _why_no_pair(images.get(key, []), masks.get(key, [])):
            rejected.append(Finding(shown(key), "", reason))
        else:
            (image,), (mask,) = images[key], masks[key]
            pairs[key] = FilePair(files.stored_file(image), files.stored_file(mask))
    return pairs


def _why_no_pair(images: list[str], masks: list[str]) -> str | None:
    for what, paths in (("images", images), ("masks", masks)):
        if len(paths) > 1:
            names = ", ".join(shown(path.rpartition("/")[2]) for path in paths)
            return f"{len(paths)} {what} of one name: {names}"
    if not masks:
        return "image without a mask of its name"
    if not images:
        return "mask without an image of its name"
    return None


def _nothing_pairs(image: str, masks: Mapping[str, list[str]], image_flag: str, flag: str) -> str:
    """Returns why no image has a mask, and a pattern that would help if there is one."""
    like = next((key for key in masks if image in key), None)
    message = (
        f"no image of {image_flag} has a mask in {flag}: the first image is called "
        f"{shown(image)!r}, the first mask {shown(next(iter(masks)))!r}"
    )
    if like is None:
        return f"{message}; names must agree but for the suffix, or where patterns have wildcards"
    before, after = like.split(image, 1)
    suffix = masks[like][0].rpartition(".")[2]
    folder = files.fixed_part(flag).rstrip("/")
    return f"{message}; try --masks='{folder}/{before}*{after}.{suffix}'"


def _folder_split(key: str) -> str | None:
    """Returns the split that one of a key's folders is named after."""
    for part in key.split("/")[:-1]:
        if part.lower() in SPLIT_OF:
            return SPLIT_OF[part.lower()]
    return None


def _by_lists(
    pairs: Mapping[str, FilePair], lists: Mapping[str, str], rejected: list[Finding]
) -> dict[str, str]:
    """Returns key -> split for every listed pair; the others are rejected."""
    by_last: dict[str, list[str]] = collections.defaultdict(list)
    for key in pairs:
        by_last[key.rpartition("/")[2]].append(key)
    splits: dict[str, str] = {}
    for split in SPLITS:
        for name in _read_names(lists[split], split) if split in lists else []:
            keys = [name] if name in pairs else by_last.get(name.rpartition("/")[2], [])
            if len(keys) != 1:
                reason = "image and mask missing" if not keys else f"fits {len(keys)} images"
                rejected.append(Finding(shown(name), split, f"listed, but {reason}"))
            elif keys[0] in splits:
                reason = "listed more than once; the first listing counts"
                rejected.append(Finding(shown(name), split, reason))
            else:
                splits[keys[0]] = split
    if not splits:
        raise UserError(
            f"--{next(iter(lists))}_list: none of the names in {', '.join(lists.values())} is a "
            f"pair's; the first pair is called {shown(next(iter(pairs)))!r}"
        )
    rejected += [Finding(shown(key), "", "in no list") for key in pairs if key not in splits]
    return splits


def _read_names(path: str, split: str) -> list[str]:
    try:
        lines = epath.Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--{split}_list: cannot read {path}: {error}") from error
    names = []
    for line in lines:
        name = line.strip()
        if name and not name.startswith("#"):
            suffix = next((s for s in files.PICTURE_SUFFIXES if name.lower().endswith(s)), "")
            names.append(name[: len(name) - len(suffix)])
    return names
