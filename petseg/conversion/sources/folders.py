"""The source `folders`: any images and masks that pair by name."""

from petseg.conversion import files, merged_masks, pair_lists, pairing, split_lists
from petseg.conversion.sources.base import (
    SPLITS,
    MaskRules,
    Source,
    SourceExample,
    SourceListing,
    SourceOptions,
    check_fractions,
    split_by_hash,
)
from petseg.conversion.splits import (
    carve_validation,
    split_by_folders,
    wanted_splits,
    without_empty_splits,
)
from petseg.data.manifest import Finding
from petseg.errors import UserError

CLASS_NAMES = ("unlabelled",)  # the images themselves have no classes


def list_folders(options: SourceOptions) -> SourceListing:
    """Pairs images with masks by the part that their names have in common.

    A name's key is its path in the folder without the suffix, or what its pattern's
    wildcards stand for (files.list_pictures). The splits come, in this order, from list
    files; from sub-folders called train, val2017, test_images or the like; or from a hash of
    each name, but so that no split is empty. If lists or sub-folders give no validation
    split, it is taken out of train by the hash.

    Lists without folders name all pairs (pair_lists). `several_masks`, or {class} in `masks`,
    merges all masks of an image (merged_masks); a sub-folder of a plain folder then holds the
    masks of the image of its name.

    Args:
      options: `images` and `masks` are folders or patterns with wildcards, local or
        remote; by default raw_dir/images and raw_dir/masks. A file of `lists` has one name
        per line, or an image and its mask. `test_fraction` is used only without lists and
        sub-folders; if it is 1, all is test.

    Raises:
      UserError: A folder is missing or contains no picture, a list cannot be read, images and
        masks are the same files, or no image has a mask.
    """
    check_fractions(options.validation_fraction, options.test_fraction)
    validation_fraction = 0.0 if options.test_fraction == 1 else options.validation_fraction
    rejected: list[Finding] = []
    lines = split_lists.read_lists(options.lists)
    if _lists_alone(options):
        pairs, splits = pair_lists.pair_by_lists(lines, options.raw_dir, rejected)
        rules, split_by = options.mask_rules, "list files"
    else:
        pairs, splits, rules, split_by = _pair_in_folders(options, lines, rejected)
    hashed: tuple[str, ...] = ()
    if not splits:
        by_hash = {
            key: split_by_hash(key, validation_fraction, options.test_fraction) for key in pairs
        }
        wanted = wanted_splits(validation_fraction, options.test_fraction)
        splits, split_by = without_empty_splits(by_hash, wanted), "a hash of each name"
        hashed = tuple(wanted)
    if "validation" not in splits.values() and validation_fraction:
        splits = carve_validation(splits, validation_fraction)
        split_by += ", validation by a hash of each name"
        hashed = hashed or ("train", "validation")
    examples = tuple(
        SourceExample(key, split, pairs[key], class_text=CLASS_NAMES[0])
        for key, split in splits.items()
    )
    return SourceListing(examples, tuple(rejected), rules, CLASS_NAMES, split_by, hashed)


def _lists_alone(options: SourceOptions) -> bool:
    """Whether lists are given and no folders are."""
    if not options.lists or options.images or options.masks:
        return False
    if options.several_masks:
        raise UserError("--several_masks needs --masks: a line of a list names one mask")
    return not (options.raw_dir and files.is_folder(f"{options.raw_dir}/images"))


def _pair_in_folders(
    options: SourceOptions, lines: list[split_lists.Line], rejected: list[Finding]
) -> tuple[dict[str, pairing.MaskedFile], dict[str, str], MaskRules, str]:
    """Returns key -> pair, key -> split if lists or folders give it, the rules, and who split."""
    lists = options.lists
    image_flag, mask_flag = _patterns(options)
    is_merged = options.several_masks or files.CLASS in mask_flag
    if is_merged and any(line.has_mask for line in lines):
        raise UserError("--several_masks and {class} need lists of images alone, without masks")
    images = pairing.list_by_key(image_flag, "images", rejected)
    masks = pairing.list_by_key(mask_flag, "masks", rejected, by_folder=is_merged)
    pairing.check_differ(images, masks, image_flag, mask_flag)
    images, masks = pairing.told_apart(images, masks)
    rules, value_of = options.mask_rules, None
    if files.CLASS in mask_flag:
        paths = [path for of_key in masks.values() for path in of_key]
        rules, value_of = merged_masks.rules_of_classes(rules, mask_flag, paths)
    elif is_merged:
        rules, value_of = merged_masks.rules_of_objects(rules)
    pairs, unpaired = pairing.pair_by_name(images, masks, value_of)
    if not pairs and not any(line.has_mask for line in lines):
        raise pairing.nothing_pairs(images, masks, image_flag, mask_flag, unpaired)
    if not lists:
        rejected += unpaired.values()
        splits, split_by = split_by_folders(pairs, rejected)
        return pairs, splits, rules, split_by
    unlisted: list[Finding] = []
    splits = split_lists.split_by_lists(lines, lists, pairs, images, masks, unlisted)
    used = {path for key in splits for path in pairing.mask_paths(pairs[key])}
    rejected += [
        finding
        for key, finding in unpaired.items()
        if key not in pairs and not used.issuperset(masks.get(key, [""]))
    ]
    rejected += unlisted
    return pairs, splits, rules, "list files"


FOLDERS = Source(
    list_examples=list_folders,
    options=(
        *("images", "masks", "several_masks", "classes", "ignore_id", "binary", "threshold"),
        "test_fraction",
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
