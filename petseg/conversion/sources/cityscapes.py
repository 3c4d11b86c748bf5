"""The source `cityscapes`: leftImg8bit with the label ids of gtFine or gtCoarse.

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016. The
ids are stored as they are; the label map `cityscapes_19` makes the 19 classes of the benchmark.
"""

from petseg.conversion import annotated_listing, files, pairing
from petseg.conversion.picture_table import list_by_key
from petseg.conversion.sources.base import (
    MaskRules,
    Source,
    SourceListing,
    SourceOptions,
    check_fractions,
    require_raw_dir,
)
from petseg.conversion.splits import ChosenSplits, choose_splits
from petseg.data.label_map import IGNORED
from petseg.data.manifest import Finding
from petseg.errors import UserError, shown

NAMES = (
    *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic"),
    *("ground", "road", "sidewalk", "parking", "rail track", "building", "wall", "fence"),
    *("guard rail", "bridge", "tunnel", "pole", "polegroup", "traffic light", "traffic sign"),
    *("vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "caravan"),
    *("trailer", "train", "motorcycle", "bicycle"),
)
# The ids of the benchmark's classes, in the order of its train ids.
TRAINED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_VOID = ",".join(str(value) for value in range(len(NAMES)) if value not in TRAINED)
CITYSCAPES_19 = "; ".join([*(f"{NAMES[value]}={value}" for value in TRAINED), f"ignored={_VOID}"])

_IMAGES, _FINE, _COARSE = "leftImg8bit", "gtFine", "gtCoarse"
_SPLITS = {"train": "train", "train_extra": "train", "val": "validation"}
_TEST = "test"


def list_cityscapes(options: SourceOptions) -> SourceListing:
    """Pairs the images of all cities with their label ids.

    The test split is left out, because its masks hold no classes.

    Args:
      options: `raw_dir` is the folder with leftImg8bit and gtFine or gtCoarse; `masks` says
        which one, where both are there: a folder. `mask_rules.ignored` is a value to ignore
        besides the label ids.

    Raises:
      UserError: A folder is missing, or no image has a mask.
    """
    require_raw_dir(options, "cityscapes")
    check_fractions(options.validation_fraction)
    masks_folder = (options.masks or _default_masks(options.raw_dir)).rstrip("/")
    kind = masks_folder.rpartition("/")[2]
    rejected: list[Finding] = []
    images = list_by_key(f"{options.raw_dir}/{_IMAGES}/*/*/*_{_IMAGES}.png", "raw_dir", rejected)
    masks = list_by_key(f"{masks_folder}/*/*/*_{kind}_labelIds.png", "masks", rejected)
    tests = sum(_split(key) == _TEST for key in images)
    if tests:
        reason = f"split whose masks hold no classes, because they are not public: {tests:,} images"
        rejected.append(Finding(_TEST, "", reason))
    # Images of splits that these masks are not of, as gtFine is none of train_extra.
    splits = {_split(key) for key in masks} - {_TEST}
    other = sorted({_split(key) for key in images} - splits - {_TEST})
    for split in other:
        count = sum(_split(key) == split for key in images)
        reason = f"split without masks in {kind}: {count:,} images"
        rejected.append(Finding(shown(split), "", reason))
    images = {key: paths for key, paths in images.items() if _split(key) in splits}
    masks = {key: paths for key, paths in masks.items() if _split(key) in splits}
    matched, unpaired = pairing.match_keys(images, masks)
    rejected += unpaired.values()
    named = {key: paths for key, paths in matched.items() if _split(key) in _SPLITS}
    rejected += [Finding(shown(key), "", "in no split") for key in matched if key not in named]
    if not named:
        raise UserError(f"--raw_dir: no image of {options.raw_dir}/{_IMAGES} has a mask in {kind}")
    given = ChosenSplits(lambda key: _SPLITS[_split(key)], "the data set's own splits")
    chosen = choose_splits(named, given, options, rejected)
    pairs = {key: pairing.to_pair(*paths) for key, paths in named.items()}
    return SourceListing(
        annotated_listing.examples_of(pairs, chosen),
        tuple(rejected),
        _mask_rules(options.mask_rules.ignored),
        (annotated_listing.CLASS_NAME,),
        chosen.split_by,
        chosen.hashed,
    )


CITYSCAPES = Source(
    list_examples=list_cityscapes,
    options=("masks", "ignore_id"),
    default_name="cityscapes",
    raw_labels=dict(enumerate(NAMES)),
)


def _mask_rules(ignored: int | None) -> MaskRules:
    names = dict(enumerate(NAMES))
    if ignored in names:
        raise UserError(
            f"--ignore_id={ignored} is '{names[ignored]}' in cityscapes; label maps ignore classes"
        )
    return MaskRules(names if ignored is None else {**names, ignored: IGNORED}, ignored=ignored)


def _default_masks(raw_dir: str) -> str:
    for name in (_FINE, _COARSE):
        if files.is_folder(f"{raw_dir}/{name}"):
            return f"{raw_dir}/{name}"
    raise UserError(f"--raw_dir: {raw_dir} has neither {_FINE} nor {_COARSE}")


def _split(key: str) -> str:
    return key.partition("/")[0]
