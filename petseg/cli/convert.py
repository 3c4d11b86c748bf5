"""Converts raw images and masks into TFRecord shards, once.

  python tools/convert.py --source=oxford_iiit_pet --raw_dir=DIR --output_dir=OUT
  python tools/convert.py --source=folders --images=DIR --masks=DIR --output_dir=OUT
  python tools/convert.py --source=tfds --raw_dir=NAME_OR_DIR --output_dir=OUT

Writes shards, TFDS's metadata and manifest.json to OUT; every input is in a shard or, with
its reason, in the manifest. The same command goes on where it was interrupted. Statuses:
0 done; 1 a bad input with --on_bad=fail, or a full disk; 2 a wrong command or folder;
130, 143 stopped by SIGINT or SIGTERM.
"""

import collections
import os
from collections.abc import Sequence

from petseg.cli import command  # isort: skip  (quiets TensorFlow before it loads)
from absl import flags
from etils import epath

from petseg.conversion import class_file
from petseg.conversion.prepare import VALIDATE, Settings
from petseg.conversion.sources import folders, oxford_iiit_pet, tfds_dataset
from petseg.conversion.sources.base import SPLITS, SourceListing
from petseg.conversion.write_dataset import Runner, write_dataset
from petseg.data import output_folder, shard_files
from petseg.data.manifest import FILE_NAME, Finding, Manifest
from petseg.errors import UserError

_SOURCE = flags.DEFINE_enum(
    "source", "oxford_iiit_pet", ["oxford_iiit_pet", "folders", "tfds"], "What is converted."
)
_RAW_DIR = flags.DEFINE_string(
    "raw_dir",
    None,
    "oxford_iiit_pet: the folder with images/ and annotations/, or with the two archives. "
    "folders: the folder with images/ and masks/. tfds: a folder that TFDS wrote, or a name "
    "such as oxford_iiit_pet:4.0.0.",
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "New or empty folder for the data set.", required=True
)
_NAME = flags.DEFINE_string(
    "name", None, "First part of every shard's file name; pets, or data for other sources."
)

_IMAGES = flags.DEFINE_string("images", None, "folders: a folder, or a path with * and **.")
_MASKS = flags.DEFINE_string("masks", None, "folders: a folder, or a path with * and **.")
_CLASSES = flags.DEFINE_string(
    "classes", "", "folders, tfds: a file with a line 'id,name' or 'id,name,colour' a class."
)
_IGNORE_ID = flags.DEFINE_integer("ignore_id", None, "A mask value that is no class.")
_LISTS = {
    split: flags.DEFINE_string(
        f"{split}_list", None, f"folders: a file that names the images of {split}, one a line."
    )
    for split in SPLITS
}
_TEST_FRACTION = flags.DEFINE_float(
    "test_fraction", 0.0, "folders: share that becomes test, without lists and sub-folders."
)
_VALIDATION_FRACTION = flags.DEFINE_float(
    "validation_fraction", 0.1, "Share that becomes validation, where the source has none."
)
_IMAGE_FEATURE = flags.DEFINE_string("image_feature", "", "tfds: the image's feature.")
_MASK_FEATURE = flags.DEFINE_string("mask_feature", "", "tfds: the mask's feature.")

_SHARD_MIB = flags.DEFINE_float("shard_mib", 128, "Size of a shard to come near to, in MiB.")
_SHORT_SIDE = flags.DEFINE_integer(
    "short_side", 0, "Store larger pictures with this short side, in pixels; 0 keeps them."
)
_JPEG_QUALITY = flags.DEFINE_integer(
    "jpeg_quality", 95, "Of images that --short_side makes smaller.", 1, 100
)
_VALIDATE = flags.DEFINE_enum(
    "validate", "full", VALIDATE, "Decode every picture, or look at headers only."
)
_ON_BAD = flags.DEFINE_enum(
    "on_bad", "skip", ["skip", "fail"], "Leave a bad input out and name it, or stop at the first."
)
_RUNNER = flags.DEFINE_enum("runner", "local", ["local", "beam"], "Who writes the shards.")
_WORKERS = flags.DEFINE_integer(
    "workers", None, "Processes of the local runner; as many as cores by default.", lower_bound=1
)
_BEAM_ARGS = flags.DEFINE_list("beam_args", [], "Options for Beam: --runner=FlinkRunner,...")

_NAMED_PER_REASON = 5  # on the screen; the manifest names all


def main(arguments: Sequence[str]) -> None:
    """Converts what the flags name and prints what became of every input."""
    if arguments:
        raise UserError(f"unexpected argument '{arguments[0]}'; every option is a --flag")
    _check_flags()
    was_finished = (epath.Path(_OUTPUT_DIR.value) / FILE_NAME).exists()
    with output_folder.claim(_OUTPUT_DIR.value):
        listing = _list()
        finished = write_dataset(
            listing,
            _OUTPUT_DIR.value,
            name=_NAME.value or ("pets" if _SOURCE.value == "oxford_iiit_pet" else "data"),
            source=_about(listing),
            settings=Settings(
                listing.masks, _VALIDATE.value, _SHORT_SIDE.value, _JPEG_QUALITY.value
            ),
            shard_mib=_SHARD_MIB.value,
            fail_on_bad=_ON_BAD.value == "fail",
            runner=Runner(
                _RUNNER.value, _WORKERS.value or os.cpu_count() or 1, tuple(_BEAM_ARGS.value)
            ),
        )
    _report(finished, _OUTPUT_DIR.value)
    if was_finished:
        print("           was finished before; it agrees with its inputs, and is whole")


def _check_flags() -> None:
    if not _SHARD_MIB.value > 0:
        raise UserError(f"--shard_mib={_SHARD_MIB.value} must be above 0")
    name = _NAME.value
    if name is not None and not (name.isascii() and name.isidentifier() and name.islower()):
        raise UserError(f"--name={name} must be lower-case letters, digits and underscores")
    if _SHORT_SIDE.value and _SHORT_SIDE.value < 32:
        raise UserError(f"--short_side={_SHORT_SIDE.value} must be 0 or at least 32")
    if _SHORT_SIDE.value and _VALIDATE.value == "header":
        raise UserError("--short_side decodes every picture; leave out --validate=header")
    if _BEAM_ARGS.value and _RUNNER.value != "beam":
        raise UserError("--beam_args needs --runner=beam")
    needs = ["images", "masks"] if _SOURCE.value == "folders" and not _RAW_DIR.value else []
    for flag in needs or ([] if _SOURCE.value == "folders" else ["raw_dir"]):
        if not flags.FLAGS[flag].value:
            hint = ", or --raw_dir=DIR with images/ and masks/ in it" if needs else ""
            raise UserError(f"--source={_SOURCE.value} needs --{flag}{hint}")
    of_source = {
        "folders": ["images", "masks", "test_fraction", *(f"{split}_list" for split in SPLITS)],
        "tfds": ["image_feature", "mask_feature"],
    }
    for source, names in of_source.items():
        for flag in names:
            if source != _SOURCE.value and flags.FLAGS[flag].present:
                raise UserError(f"--{flag} is of --source={source}, not {_SOURCE.value}")
    if _SOURCE.value == "oxford_iiit_pet" and (_CLASSES.value or _IGNORE_ID.value is not None):
        raise UserError("--classes and --ignore_id are of --source=folders and tfds")


def _list() -> SourceListing:
    raw_dir = (_RAW_DIR.value or "").rstrip("/") or _RAW_DIR.value
    if _SOURCE.value == "oxford_iiit_pet":
        return oxford_iiit_pet.list_oxford_iiit_pet(
            raw_dir, _VALIDATION_FRACTION.value, f"{_OUTPUT_DIR.value}/{shard_files.WORK_DIR}"
        )
    rules = class_file.read_mask_rules(_CLASSES.value, _IGNORE_ID.value)
    if _SOURCE.value == "tfds":
        return tfds_dataset.list_tfds(
            raw_dir,
            rules if _CLASSES.value else None,
            image_feature=_IMAGE_FEATURE.value,
            mask_feature=_MASK_FEATURE.value,
            validation_fraction=_VALIDATION_FRACTION.value,
        )
    return folders.list_folders(
        _IMAGES.value or f"{raw_dir}/images",
        _MASKS.value or f"{raw_dir}/masks",
        rules,
        lists={split: flag.value for split, flag in _LISTS.items() if flag.value},
        validation_fraction=_VALIDATION_FRACTION.value,
        test_fraction=_TEST_FRACTION.value,
    )


def _about(listing: SourceListing) -> dict[str, str | int | float]:
    """What the manifest says of the data set's making."""
    about = {
        "source": _SOURCE.value,
        "split_by": listing.split_by,
        "validation_fraction": _VALIDATION_FRACTION.value,
        "shard_mib": _SHARD_MIB.value,
        "validate": _VALIDATE.value,
    }
    if _SHORT_SIDE.value:
        about |= {"short_side_px": _SHORT_SIDE.value, "jpeg_quality": _JPEG_QUALITY.value}
    return about


def _report(finished: Manifest, output_dir: str) -> None:
    for name, split in finished.splits.items():
        pixels = sum(split.pixels_per_label.values())
        labels = ", ".join(
            f"{finished.raw_labels[label]} {count / pixels:.1%}"
            for label, count in split.pixels_per_label.items()
        )
        print(
            f"{name:<10} {split.records:>7,} images in {len(split.shards)} shards, "
            f"{split.bytes / 1e6:,.1f} MB, mean {split.mean_width:.0f}x{split.mean_height:.0f} px"
            f"; {labels or 'labels not counted (--validate=header)'}"
        )
    for split in SPLITS:
        if split not in finished.splits:
            print(f"{split:<10} none")
    print(f"split by   {finished.source['split_by']}")
    _report_findings("repaired", finished.repaired, output_dir)
    _report_findings("rejected", finished.rejected, output_dir)
    if _SOURCE.value != "oxford_iiit_pet" and finished.raw_labels:
        spec = class_file.label_map_spec(finished.raw_labels, _IGNORE_ID.value)
        print(f"label map  --config.data.label_map={spec!r}")
    print(f"data set   {output_dir}")


def _report_findings(what: str, findings: Sequence[Finding], output_dir: str) -> None:
    print(f"{what:<10} {len(findings):>7,}")
    by_reason = collections.defaultdict(list)
    for finding in findings:
        by_reason[finding.reason].append(finding)
    for reason, group in by_reason.items():
        names = ", ".join(finding.name for finding in group[:_NAMED_PER_REASON])
        more = len(group) - _NAMED_PER_REASON
        rest = f" and {more:,} more (all in {output_dir}/{FILE_NAME})" if more > 0 else ""
        print(f"  {len(group):>5,} {reason}: {names}{rest}")


def run() -> None:
    """The console entry point."""
    command.run(main, ("source", "raw_dir", "output_dir", "classes", "short_side"))


if __name__ == "__main__":
    run()
