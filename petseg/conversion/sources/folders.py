"""The source `folders`: any images and masks that pair by name."""

import itertools
from collections.abc import Iterator, Mapping

from petseg.conversion import (
    annotation_hint,
    files,
    merged_masks,
    pair_lists,
    pairing,
    split_lists,
)
from petseg.conversion.choices import SPLITS
from petseg.conversion.picture_table import MASKS, PictureTable
from petseg.conversion.sources.base import (
    MaskRules,
    Source,
    SourceExample,
    SourceListing,
    SourceOptions,
    check_fractions,
)
from petseg.conversion.spill import SpilledList
from petseg.conversion.splits import OUTSIDE, ChosenSplits, choose_splits
from petseg.data.manifest import Finding
from petseg.errors import UserError, shown

CLASS_NAMES = ("unlabelled",)  # the images themselves have no classes
_MOST_NAMES, _NAMED = 1000, 6  # of a folder, in an error


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

    Without lists a part of the names at a time is in memory, however many there are.

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
    lines = split_lists.read_lists(options.lists)
    rejected: SpilledList[Finding] = SpilledList()
    if _lists_alone(options):
        pairs, splits = pair_lists.pair_by_lists(lines, options.raw_dir, rejected)
        return _listed(pairs, splits, options.mask_rules, options, rejected)
    image_flag, mask_flag = _patterns(options)
    is_merged = options.several_masks or files.has_class(mask_flag)
    if is_merged and any(line.has_mask for line in lines):
        raise UserError("--several_masks and {class} need lists of images alone, without masks")
    table = PictureTable()
    try:
        table.add_all(image_flag, mask_flag, rejected, is_merged=is_merged)
    except UserError as error:
        raise annotation_hint.explained(error, mask_flag, image_flag, options.raw_dir) from error
    if (told_apart := table.told_apart()) is None:
        raise pairing.same_pictures(table.whole()[0], image_flag, mask_flag)
    rules, value_of = options.mask_rules, None
    if files.has_class(mask_flag):
        paths = told_apart.paths(MASKS)
        rules, value_of = merged_masks.rules_of_classes(rules, mask_flag, paths)
    elif is_merged:
        rules, value_of = merged_masks.rules_of_objects(rules)
    pairs = _Pairs(told_apart, value_of)
    if not any(line.has_mask for line in lines) and next(iter(pairs), None) is None:
        error = _nothing_pairs(told_apart, image_flag, mask_flag, is_merged)
        raise annotation_hint.explained(error, mask_flag, image_flag, options.raw_dir)
    if options.lists:
        by_key, splits = _split_by_lists(lines, options, told_apart, value_of, rejected)
        return _listed(by_key, splits, rules, options, rejected)
    chosen = choose_splits(pairs, None, options, rejected)
    examples = pairs.examples(chosen, rejected)
    return SourceListing(examples, rejected, rules, CLASS_NAMES, chosen.split_by, chosen.hashed)


class _Pairs:
    """The pairs of a table; iterating gives their keys, as often as wanted."""

    def __init__(self, table: PictureTable, value_of: pairing.ValueOf | None):
        self._table, self._value_of = table, value_of

    def __iter__(self) -> Iterator[str]:
        for images, masks in self._table.buckets():
            yield from pairing.match_keys(images, masks, is_merged=bool(self._value_of))[0]

    def examples(
        self, chosen: ChosenSplits, rejected: SpilledList[Finding]
    ) -> Iterator[SourceExample]:
        """Yields each pair with its split; adds all else to `rejected`."""
        for images, masks in self._table.buckets():
            matched, unpaired = pairing.match_keys(images, masks, is_merged=bool(self._value_of))
            rejected.extend(unpaired.values())
            for key, paths in matched.items():
                if split := chosen.split_of(key):
                    pair = pairing.to_pair(*paths, self._value_of)
                    yield SourceExample(key, split, pair, class_text=CLASS_NAMES[0])
                else:
                    rejected.append(Finding(shown(key), "", OUTSIDE))


def _listed(
    pairs: Mapping[str, pairing.MaskedFile],
    splits: Mapping[str, str],
    rules: MaskRules,
    options: SourceOptions,
    rejected: SpilledList[Finding],
) -> SourceListing:
    """Returns the listing of pairs whose splits lists give."""
    chosen = choose_splits(splits, ChosenSplits(splits.get, "list files"), options, rejected)
    examples = tuple(
        SourceExample(key, chosen.split_of(key), pairs[key], class_text=CLASS_NAMES[0])
        for key in splits
    )
    return SourceListing(examples, rejected, rules, CLASS_NAMES, chosen.split_by, chosen.hashed)


def _lists_alone(options: SourceOptions) -> bool:
    """Whether lists are given and no folders are."""
    if not options.lists or options.images or options.masks:
        return False
    if options.several_masks:
        raise UserError("--several_masks needs --masks: a line of a list names one mask")
    return not (options.raw_dir and files.is_folder(f"{options.raw_dir}/images"))


def _nothing_pairs(
    table: PictureTable, image_flag: str, mask_flag: str, is_merged: bool
) -> UserError:
    images, masks = table.whole()
    _, unpaired = pairing.match_keys(images, masks, is_merged=is_merged)
    return pairing.nothing_pairs(images, masks, image_flag, mask_flag, unpaired)


def _split_by_lists(
    lines: list[split_lists.Line],
    options: SourceOptions,
    table: PictureTable,
    value_of: pairing.ValueOf | None,
    rejected: SpilledList[Finding],
) -> tuple[dict[str, pairing.MaskedFile], dict[str, str]]:
    """Returns key -> pair, and key -> split for those that lists name; holds all in memory."""
    images, masks = table.whole()
    matched, unpaired = pairing.match_keys(images, masks, is_merged=bool(value_of))
    pairs = {key: pairing.to_pair(*paths, value_of) for key, paths in matched.items()}
    unlisted: list[Finding] = []
    splits = split_lists.split_by_lists(lines, options.lists, pairs, images, masks, unlisted)
    used = {path for key in splits for path in pairing.mask_paths(pairs[key])}
    rejected.extend(
        finding
        for key, finding in unpaired.items()
        if key not in pairs and not used.issuperset(masks.get(key, [""]))
    )
    rejected.extend(unlisted)
    return pairs, splits


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
    images = options.images or f"{options.raw_dir}/images"
    masks = options.masks or f"{options.raw_dir}/masks"
    if not options.images and not files.is_folder(files.fixed_part(options.raw_dir)):
        raise UserError(f"--raw_dir: {options.raw_dir} is not a folder")
    if not options.images and files.is_folder(options.raw_dir) and not files.is_folder(images):
        names = sorted(itertools.islice(files.names_in(options.raw_dir), _MOST_NAMES))
        there = [f"{name}/" for name in names if files.is_folder(f"{options.raw_dir}/{name}")]
        held = f"it holds {', '.join(map(shown, there[:_NAMED]))}" if there else "it has no folder"
        error = UserError(
            f"--raw_dir: {options.raw_dir} has no images/ and masks/ in it ({held}); name the "
            "folders, or patterns in it, by --images and --masks"
        )
        raise annotation_hint.explained(error, options.raw_dir)
    return images, masks
