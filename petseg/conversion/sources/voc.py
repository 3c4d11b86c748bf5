"""The source `voc`: PASCAL VOC's layout of segmentation, also as CVAT exports it.

Everingham et al., "The Pascal Visual Object Classes Challenge: A Retrospective", IJCV 2015.
"""

from collections.abc import Mapping

from petseg.conversion import annotated_listing, class_file, files, text_files
from petseg.conversion.annotated_listing import split_of_file
from petseg.conversion.choices import SPLITS
from petseg.conversion.files import stored_file
from petseg.conversion.picture_table import list_by_key
from petseg.conversion.sources.base import (
    FilePair,
    MaskRules,
    Source,
    SourceListing,
    SourceOptions,
    require_raw_dir,
)
from petseg.data.label_map import BACKGROUND, IGNORED
from petseg.data.manifest import Finding
from petseg.errors import UserError, shown

CLASSES = (
    *(BACKGROUND, "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep"),
    *("sofa", "train", "tvmonitor"),
)
VOID = 255  # the value of outlines and of difficult objects
_IMAGES, _MASKS, _LISTS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"
_LABEL_MAP = "labelmap.txt"
_TRAINVAL = "trainval"


def list_voc(options: SourceOptions) -> SourceListing:
    """Pairs the images and masks that the lists of ImageSets/Segmentation name.

    Args:
      options: `raw_dir` is the folder with JPEGImages, or one above it. `masks` is a folder in
        place of SegmentationClass, `lists` are files in place of those in ImageSets. The
        classes are those of the class file, of labelmap.txt, or VOC's own; without a
        labelmap.txt 255 is ignored.

    Raises:
      UserError: A folder or list is missing, or no listed image has a mask.
    """
    require_raw_dir(options, "voc")
    root = _root(options)
    rejected: list[Finding] = []
    images = list_by_key(options.images or f"{root}/{_IMAGES}", "raw_dir", rejected)
    masks = list_by_key(options.masks or f"{root}/{_MASKS}", "masks", rejected)
    known = {} if options.lists else _read_lists(root, masks, rejected)
    names = known or dict.fromkeys(masks, "")
    pairs: dict[str, FilePair] = {}
    why_not: dict[str, str] = {}
    for name in names:
        if reason := _why_not(images.get(name, []), masks.get(name, [])):
            why_not[name] = reason
        else:
            pairs[name] = FilePair(stored_file(images[name][0]), stored_file(masks[name][0]))
    if not pairs and not options.lists:
        raise UserError(f"--raw_dir: no listed image of {root} has a mask")
    by = f"the lists of {_LISTS}"
    chosen = annotated_listing.choose(pairs, known, by, options, rejected, images, masks)
    if options.lists:  # their lines may pair other names, and choosing says which ones fail
        used = {pair.mask.path for pair in pairs.values()}
        unused = [name for name in why_not if used.isdisjoint(masks[name])]
        rejected += [Finding(shown(name), "", "mask in no list") for name in unused]
    else:
        rejected += [Finding(shown(n), names[n] or "train", why) for n, why in why_not.items()]
    if unlisted := len(images.keys() - names.keys() - pairs.keys()):
        reason = f"images without a mask, in no list of segmentation: {unlisted:,}"
        rejected.append(Finding(_IMAGES, "", reason))
    rejected += [Finding(shown(n), "", "mask in no list") for n in masks if n not in names]
    return SourceListing(
        annotated_listing.examples_of(pairs, chosen),
        tuple(rejected),
        _mask_rules(root, options.mask_rules),
        (annotated_listing.CLASS_NAME,),
        chosen.split_by,
        chosen.hashed,
    )


VOC = Source(
    list_examples=list_voc,
    options=(
        *("images", "masks", "classes", "ignore_id", "binary", "threshold", "test_fraction"),
        *(f"{split}_list" for split in SPLITS),
    ),
)


def _root(options: SourceOptions) -> str:
    """Returns the folder that holds the masks: raw_dir, or the only one of its VOC folders."""
    raw_dir = options.raw_dir
    wanted = _IMAGES if options.masks else _MASKS
    if files.is_folder(f"{raw_dir}/{wanted}"):
        return raw_dir
    found = []
    for above in (raw_dir, f"{raw_dir}/VOCdevkit"):
        names = sorted(files.names_in(above)) if files.is_folder(above) else []
        found += [f"{above}/{n}" for n in names if files.is_folder(f"{above}/{n}/{wanted}")]
    if len(found) > 1:
        raise UserError(f"--raw_dir: {raw_dir} holds several data sets, name one: {found}")
    if not found:
        raise UserError(f"--raw_dir: {raw_dir} has no folder {wanted}")
    return found[0]


def _read_lists(
    root: str, masks: Mapping[str, list[str]], rejected: list[Finding]
) -> dict[str, str]:
    """Returns name -> split, empty if a list's name says none; without lists, nothing."""
    folder = f"{root}/{_LISTS}"
    paths = sorted(files.names_in(folder)) if files.is_folder(folder) else []
    paths = [f"{folder}/{name}" for name in paths if name.endswith(".txt")]
    if any(split_of_file(path, folder) == "train" for path in paths):
        paths = [path for path in paths if not _is_trainval(path)]
    splits: dict[str, str] = {}
    for path in paths:
        split = split_of_file(path, folder) or ("train" if _is_trainval(path) else "")
        names = [line.split()[0] for line in _lines(path) if line.strip()]
        if split == "test" and masks.keys().isdisjoint(names):
            reason = f"list of images whose masks are not there: {len(names):,} images"
            rejected.append(Finding(path.rpartition("/")[2], "", reason))
            continue
        for name in names:
            if name in splits:
                reason = "listed more than once; the first listing counts"
                rejected.append(Finding(shown(name), split, reason))
            splits.setdefault(name, split)
    return splits


def _lines(path: str) -> list[str]:
    try:
        return text_files.read_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--raw_dir: cannot read {path}: {error}") from error


def _is_trainval(path: str) -> bool:
    return path.rpartition("/")[2].startswith(_TRAINVAL)


def _why_not(images: list[str], masks: list[str]) -> str | None:
    lacking = [what for what, there in (("image", images), ("mask", masks)) if not there]
    if lacking:
        return f"listed, but {' and '.join(lacking)} missing"
    if len(images) > 1 or len(masks) > 1:
        return f"several files of one name: {len(images)} images, {len(masks)} masks"
    return None


def _mask_rules(root: str, given: MaskRules) -> MaskRules:
    ignored = given.ignored
    if given.names is not None:
        return given
    if files.is_folder(root) and _LABEL_MAP in files.names_in(root):
        return _read_label_map(f"{root}/{_LABEL_MAP}", ignored)
    void = VOID if ignored is None else ignored
    return MaskRules({**dict(enumerate(CLASSES)), VOID: IGNORED, void: IGNORED}, {}, void)


def _read_label_map(path: str, ignored: int | None) -> MaskRules:
    """Returns the rules of CVAT's file: background is 0, then in the file's order."""
    rules = class_file.read_mask_rules(path, None)
    order = sorted(rules.names, key=lambda value: rules.names[value] != BACKGROUND)
    names = {place: rules.names[value] for place, value in enumerate(order)}
    colours = {c: order.index(value) for c, value in rules.values_of_colours.items()}
    if ignored is not None:
        names[ignored] = IGNORED
    return MaskRules(names, colours, ignored)
