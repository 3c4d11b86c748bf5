"""The source `folders`: any images and masks that pair by name."""

from petseg.conversion import annotation_hint, pairing, split_lists
from petseg.conversion.sources.base import (
    SPLITS,
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

    Args:
      options: `images` and `masks` are folders or patterns with wildcards, local or
        remote; by default raw_dir/images and raw_dir/masks. A file of `lists` has one name
        per line, or an image and its mask. `test_fraction` is used only without lists and
        sub-folders; if it is 1, all is test.

    Raises:
      UserError: A folder is missing or contains no picture, a list cannot be read, images and
        masks are the same files, or no image has a mask.
    """
    lists, test_fraction = options.lists, options.test_fraction
    check_fractions(options.validation_fraction, test_fraction)
    validation_fraction = 0.0 if test_fraction == 1 else options.validation_fraction
    image_flag, mask_flag = _patterns(options)
    rejected: list[Finding] = []
    lines = split_lists.read_lists(lists)
    try:
        images = pairing.list_by_key(image_flag, "images", rejected)
        masks = pairing.list_by_key(mask_flag, "masks", rejected)
    except UserError as error:
        raise annotation_hint.explained(error, mask_flag, image_flag, options.raw_dir) from error
    pairing.check_differ(images, masks, image_flag, mask_flag)
    pairs, unpaired = pairing.pair_by_name(images, masks)
    if not pairs and not any(line.has_mask for line in lines):
        error = pairing.nothing_pairs(images, masks, image_flag, mask_flag)
        raise annotation_hint.explained(error, mask_flag, image_flag, options.raw_dir)
    if lists:
        unlisted: list[Finding] = []
        splits = split_lists.split_by_lists(lines, lists, pairs, images, masks, unlisted)
        split_by = "list files"
        used = {pairs[key].mask.path for key in splits}
        unpaired = {
            key: finding
            for key, finding in unpaired.items()
            if key not in pairs and not used.issuperset(masks.get(key, [""]))
        }
        rejected += [*unpaired.values(), *unlisted]
    else:
        rejected += unpaired.values()
        splits, split_by = split_by_folders(pairs, rejected)
    if not splits:
        by_hash = {key: split_by_hash(key, validation_fraction, test_fraction) for key in pairs}
        wanted = wanted_splits(validation_fraction, test_fraction)
        splits, split_by = without_empty_splits(by_hash, wanted), "a hash of each name"
    if "validation" not in splits.values() and validation_fraction:
        splits = carve_validation(splits, validation_fraction)
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
