"""Converts the raw data of a source into a data set."""

import dataclasses
import functools

from etils import epath

from petseg.conversion import beam_runner, class_file, colour_survey, files, plan
from petseg.conversion.choices import ON_BAD, RUNNERS, SPLITS, STRATIFY, VALIDATE
from petseg.conversion.plan import Plan
from petseg.conversion.prepare import RecordOptions
from petseg.conversion.regroup import RegroupOptions, list_source
from petseg.conversion.sources.base import Source, SourceListing, SourceOptions
from petseg.conversion.write_dataset import WriteOptions, new_plan_folder, write_dataset
from petseg.conversion.write_shards import RunnerOptions
from petseg.cores import usable_cores
from petseg.data import manifest, output_folder, shard_files
from petseg.data.image_range import parse_image_range
from petseg.data.manifest import Manifest
from petseg.data.store_kinds import ENCODED, RAW, STORES
from petseg.errors import UserError
from petseg.registry import SOURCES

_MIN_SHORT_SIDE_PX = 32

# Options that a source takes only if it lists them.
OF_SOME_SOURCES = frozenset(
    (
        *("images", "masks", "annotations", "attribute", "image_feature", "mask_feature"),
        *("classes", "ignore_id", "binary", "threshold", "several_masks"),
        *("train_list", "validation_list", "test_list", "test_fraction"),
    )
)


@dataclasses.dataclass(frozen=True)
class ConvertOptions:
    """What to convert, and how; the flags of petseg-convert have the same names.

    Attributes:
      output_dir: A new or empty folder for the data set, or one to finish.
      source: A name in registry.SOURCES.
      raw_dir: The folder of the raw data, or what the source takes in its place.
      name: The first part of the shards' file names; empty for the source's default.
      images: A folder or pattern of images.
      masks: A folder or pattern of masks.
      annotations: A file, folder or pattern of annotations; empty for the source's own place.
      attribute: The attribute of VIA's regions that is the class; empty for the only one.
      classes: The class file; empty if there is none.
      ignore_id: A mask value that is no class, 0-255, or None.
      binary: Masks are of one class: what is not zero.
      threshold: Masks, even JPEG ones, are of one class: grey values from here on; or None.
      image_range: What becomes 0 and 255 in images of more than 8 bits: '0,4095' for two values,
        '1%,99%' for percentiles of each image; empty for the upper eight bits of 16.
      train_list: A file that names the images of train, one per line.
      validation_list: Likewise, of validation.
      test_list: Likewise, of test.
      validation_fraction: Share that becomes validation if the source has no such split.
      test_fraction: Share that becomes test, without lists and sub-folders.
      several_masks: Merge all masks of one name to the mask of their image.
      keep_together: Regular expressions that find in an image's name what the images of one
        split share, such as a patient; or 'near_duplicates' (regroup.RegroupOptions).
      stratify: 'presence' of classes in the mask, or 'class' of the image, of which each
        split gets its share; or ''.
      image_feature: The name of the image's TFDS feature; empty for the only one.
      mask_feature: The name of the mask's TFDS feature; empty for the only one.
      shard_mib: The approximate size of a shard, in MiB.
      short_side_px: Larger pictures are stored with this short side; 0 keeps them.
      jpeg_quality: Quality of images that are made smaller, 1-100.
      store: 'encoded' for JPEG and PNG, 'raw' for the pixels that they decode to.
      validate: 'full' decodes every picture, 'header' reads only headers.
      on_bad: 'skip' leaves a bad input out and reports it, 'fail' stops at the first.
      runner: 'local' or 'beam'.
      workers: Number of processes of the local runner; None for one per core.
      beam_args: Options of Beam's own.
      plugins: Modules that register sources, for the workers of Beam.
    """

    output_dir: str
    source: str = "oxford_iiit_pet"
    raw_dir: str = ""
    name: str = ""
    images: str = ""
    masks: str = ""
    annotations: str = ""
    attribute: str = ""
    classes: str = ""
    ignore_id: int | None = None
    binary: bool = False
    threshold: int | None = None
    image_range: str = ""
    train_list: str = ""
    validation_list: str = ""
    test_list: str = ""
    validation_fraction: float = 0.1
    test_fraction: float = 0.0
    several_masks: bool = False
    keep_together: tuple[str, ...] = ()
    stratify: str = ""
    image_feature: str = ""
    mask_feature: str = ""
    shard_mib: float = 128
    short_side_px: int = 0
    jpeg_quality: int = 95
    store: str = ENCODED
    validate: str = "full"
    on_bad: str = "skip"
    runner: str = "local"
    workers: int | None = None
    beam_args: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()


def convert(options: ConvertOptions, show_progress: bool = True) -> Manifest:
    """Converts raw images and masks into shards with TFDS metadata and a manifest.

    The same options resume an interrupted conversion, and leave a finished one as it is.

    Args:
      options: What to convert, and how.
      show_progress: Draw progress bars on standard error.

    Returns:
      The manifest, which accounts for every input: in a shard, repaired, or rejected.

    Raises:
      UserError: An option is wrong or does not suit the source, the raw data cannot be
        used, or the folder contains something else.
      FaultFound: The folder cannot be written; or an input is bad and on_bad is 'fail'.
    """
    source = SOURCES.get(options.source)
    check_options(options)
    check_source_takes(options, source)
    with output_folder.claim(options.output_dir):
        listing, planned = _list(options, show_progress)
        if "classes" in source.options and not _is_finished(options.output_dir):
            colour_survey.check_colours_are_named(
                planned.first(colour_survey.SURVEYED), listing.masks, options.output_dir
            )
        return write_dataset(
            listing,
            planned,
            WriteOptions(
                options.output_dir,
                name=options.name or source.default_name,
                source=_description(options, listing),
                records=record_options(options, listing),
                shard_mib=options.shard_mib,
                fail_on_bad=options.on_bad == "fail",
                runner=RunnerOptions(
                    options.runner,
                    options.workers or usable_cores(),
                    tuple(options.beam_args),
                    show_progress,
                ),
            ),
        )


def _list(options: ConvertOptions, show_progress: bool) -> tuple[SourceListing, Plan]:
    """Lists the source, and sorts what it lists, where the shards will be written."""
    folder = new_plan_folder(options.output_dir)
    work_dir = f"{options.output_dir}/{shard_files.WORK_DIR}"
    to_list = functools.partial(
        list_source,
        *(options.source, options.plugins),
        source_options(options, work_dir, show_progress),
        regroup_options(options, show_progress),
    )
    if options.runner == "beam":
        return beam_runner.plan_on_beam(to_list, folder, options.beam_args)
    listing = to_list()
    return listing, plan.make_plan(listing.examples, folder)


def _is_finished(output_dir: str) -> bool:
    return (epath.Path(output_dir) / manifest.FILE_NAME).exists()


def check_options(options: ConvertOptions) -> None:
    """Raises UserError unless each option is one that any source could take."""
    for flag, choices in (
        *(("validate", VALIDATE), ("on_bad", ON_BAD), ("runner", RUNNERS)),
        *(("stratify", STRATIFY), ("store", STORES)),
    ):
        if getattr(options, flag) not in choices:
            known = " or ".join(filter(None, choices))
            raise UserError(f"--{flag}={getattr(options, flag)} must be {known}")
    if not options.shard_mib > 0:
        raise UserError(f"--shard_mib={options.shard_mib} must be above 0")
    name = options.name
    if name and not (name.isascii() and name.isidentifier() and name.islower()):
        raise UserError(f"--name={name} must be lower-case letters, digits and underscores")
    if options.short_side_px and options.short_side_px < _MIN_SHORT_SIDE_PX:
        raise UserError(
            f"--short_side={options.short_side_px} must be 0 or at least {_MIN_SHORT_SIDE_PX}"
        )
    names_values = options.classes or options.binary
    if options.ignore_id is not None and not names_values and options.validate == "header":
        raise UserError(
            "--ignore_id without --classes needs the values of every mask; leave out "
            "--validate=header, or name the classes"
        )
    parse_image_range(options.image_range)
    if options.short_side_px and options.validate == "header":
        raise UserError("--short_side decodes every picture; leave out --validate=header")
    if options.store == RAW and options.validate == "header":
        raise UserError("--store=raw decodes every picture; leave out --validate=header")
    if not 1 <= options.jpeg_quality <= 100:
        raise UserError(f"--jpeg_quality={options.jpeg_quality} must be from 1 to 100")
    if options.workers is not None and options.workers < 1:
        raise UserError(f"--workers={options.workers} must be at least 1")
    if options.beam_args and options.runner != "beam":
        raise UserError("--beam_args needs --runner=beam")


def check_source_takes(options: ConvertOptions, source: Source) -> None:
    """Raises UserError for an option that is given and that only other sources take."""
    foreign = [
        field.name
        for field in dataclasses.fields(options)
        if getattr(options, field.name) != field.default
        and field.name in OF_SOME_SOURCES - {*source.options}
    ]
    for option in foreign:  # only now all sources are imported, which takes a while
        takers = [name for name, other in SOURCES.items() if option in other.options]
        raise UserError(f"--{option} is of --source={', '.join(takers)}; not of {options.source}")


def record_options(options: ConvertOptions, listing: SourceListing) -> RecordOptions:
    """Returns what decides over the records' bytes."""
    return RecordOptions(
        listing.masks,
        options.validate,
        options.short_side_px,
        options.jpeg_quality,
        parse_image_range(options.image_range),
        options.store,
    )


def regroup_options(options: ConvertOptions, show_progress: bool) -> RegroupOptions:
    """Returns what decides over splits by a hash."""
    together = options.keep_together
    return RegroupOptions(
        (together,) if isinstance(together, str) else tuple(together),
        options.stratify,
        options.validation_fraction,
        options.test_fraction,
        options.workers or usable_cores(),
        show_progress,
    )


def source_options(options: ConvertOptions, work_dir: str, show_progress: bool) -> SourceOptions:
    """Returns what the source is given."""
    raw_dir = options.raw_dir.rstrip("/") or options.raw_dir
    lists = {split: _beside(raw_dir, getattr(options, f"{split}_list")) for split in SPLITS}
    return SourceOptions(
        raw_dir=raw_dir,
        work_dir=work_dir,
        images=_below(raw_dir, options.images),
        masks=_below(raw_dir, options.masks),
        annotations=_below(raw_dir, options.annotations),
        attribute=options.attribute,
        mask_rules=class_file.read_mask_rules(
            options.classes, options.ignore_id, options.binary, options.threshold
        ),
        lists={split: path for split, path in lists.items() if path},
        validation_fraction=options.validation_fraction,
        test_fraction=options.test_fraction,
        several_masks=options.several_masks,
        image_feature=options.image_feature,
        mask_feature=options.mask_feature,
        show_progress=show_progress,
    )


def _below(raw_dir: str, pattern: str) -> str:
    """Returns a relative folder or pattern below raw_dir, if it is one there."""
    if not raw_dir or not pattern or pattern.startswith("/") or "://" in pattern:
        return pattern
    below = f"{raw_dir}/{pattern}"
    return below if epath.Path(files.fixed_part(below)).exists() else pattern


def _beside(raw_dir: str, path: str) -> str:
    """Returns a file below raw_dir, if it is one there and none here."""
    if not path or epath.Path(path).exists():
        return path
    return _below(raw_dir, path)


def _description(options: ConvertOptions, listing: SourceListing) -> dict[str, str | int | float]:
    """Returns what the manifest says about the making of the data set."""
    description = {
        "source": options.source,
        "split_by": listing.split_by,
        "validation_fraction": options.validation_fraction,
        "shard_mib": options.shard_mib,
        "validate": options.validate,
    }
    if options.short_side_px:
        description |= {
            "short_side_px": options.short_side_px,
            "jpeg_quality": options.jpeg_quality,
        }
    if value_range := parse_image_range(options.image_range):
        description["image_range"] = value_range.spec()
    if listing.masks.threshold is not None:
        description["mask_threshold"] = listing.masks.threshold
    if merged := listing.masks.stored_as:
        description["mask_values_stored_as"] = ", ".join(
            f"{value} as {stored}" for value, stored in sorted(merged.items())
        )
    return description | listing.facts
