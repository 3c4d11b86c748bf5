"""Converts raw images and masks into TFRecord shards, once.

  petseg-convert --source=oxford_iiit_pet --raw_dir=DIR --output_dir=OUT
  petseg-convert --source=folders --images=DIR --masks=DIR --output_dir=OUT
  petseg-convert --source=tfds --raw_dir=NAME_OR_DIR --output_dir=OUT
  petseg-convert --source=coco|labelme|via|yolo --raw_dir=DIR --output_dir=OUT
  petseg-convert --source=voc|cityscapes|tfrecord --raw_dir=DIR --output_dir=OUT
  petseg-convert ... --dry_run   looks at a sample, and writes nothing

Writes shards, TFDS's metadata and manifest.json to OUT; every input is in a shard or, with
its reason, in the manifest. The same command resumes an interrupted conversion. Statuses:
0 done; 1 a class has no pixel, a tenth of the inputs is rejected for one reason, or
palettes contradict each other (unless --accept_losses), a bad input with --on_bad=fail, or a
full disk; 2 a wrong command or folder; 130, 143 stopped by SIGINT or SIGTERM.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags
from etils import epath

from petseg.cli import command, flag_parsing, path_flags
from petseg.conversion.choices import ON_BAD, RUNNERS, SPLITS, STRATIFY, VALIDATE
from petseg.data.store_kinds import ENCODED, STORES
from petseg.errors import UserError
from petseg.registry import SOURCES, load_plugins

if TYPE_CHECKING:
    from petseg.conversion.convert import ConvertOptions
    from petseg.data.manifest import Manifest

_SOURCE = flags.DEFINE_string(
    "source", "oxford_iiit_pet", f"Kind of raw data: {', '.join(SOURCES)}, or one of a plugin."
)
_PLUGINS = flags.DEFINE_multi_string(
    "plugins", [], "Module that registers a source of your own; may be repeated."
)
_RAW_DIR = path_flags.define(
    "raw_dir",
    "",
    "oxford_iiit_pet: the folder with images/ and annotations/, or with the two archives. "
    "folders: the folder with images/ and masks/. tfds: a folder that TFDS wrote, or a name "
    "such as oxford_iiit_pet:4.0.0. coco, labelme, via, yolo: the folder with images and "
    "annotations. voc: the folder with JPEGImages/, or VOCdevkit's. cityscapes: the folder with "
    "leftImg8bit/ and gtFine/. tfrecord: a folder, file or pattern of TFRecord files.",
)
_OUTPUT_DIR = path_flags.define(
    "output_dir", None, "New or empty folder for the data set.", required=True
)
_NAME = flags.DEFINE_string(
    "name", "", "First part of every shard's file name; pets, or data for other sources."
)

_IMAGES = path_flags.define(
    "images",
    "",
    "folders, voc and sources of annotations: a folder, or a path with *, ** and {any}.",
)
_MASKS = path_flags.define(
    "masks",
    "",
    "folders: likewise; {class} names the mask's class. voc, cityscapes: a folder of masks in "
    "place of SegmentationClass, or gtFine.",
)
_ANNOTATIONS = path_flags.define(
    "annotations",
    "",
    "coco, labelme, via, yolo: a file, a folder or a path with * and **; by default what lies in "
    "--raw_dir. In coco and yolo smaller objects lie on larger ones, in labelme and via later "
    "ones on earlier ones.",
)
_ATTRIBUTE = flags.DEFINE_string(
    "attribute", "", "via: the attribute of regions that is their class, if there are several."
)
_CLASSES = path_flags.define(
    "classes",
    "",
    "A file with one line per class: 'id,name', 'id,name,colour', 'name=id,id', 'name,r,g,b', "
    "'r g b name', a name alone, or as CVAT and Roboflow write it. For annotations the names are "
    "their labels, and others reject an image.",
)
_IGNORE_ID = flags.DEFINE_integer("ignore_id", None, "A mask value that is no class, such as 255.")
_BINARY = flags.DEFINE_bool(
    "binary", False, "folders, tfds, voc, tfrecord: masks are of one class: every value but 0."
)
_THRESHOLD = flags.DEFINE_integer(
    "threshold",
    None,
    "folders, tfds, voc, tfrecord: masks are of one class: values from here on, such as 128. For "
    "smoothed edges and JPEG masks.",
)
_IMAGE_RANGE = flags.DEFINE_string(
    "image_range",
    "",
    "What becomes black and white in images of 16 bits or real numbers: two values, 0,4095, or "
    "percentiles of each image, 1%,99%. By default the upper eight of 16 bits.",
)
_LISTS = {
    split: path_flags.define(
        f"{split}_list", "", f"A file that names the images of {split}, one per line."
    )
    for split in SPLITS
}
_TEST_FRACTION = flags.DEFINE_float(
    "test_fraction",
    0.0,
    "Share that becomes test, if no list, folder or source says it.",
)
_VALIDATION_FRACTION = flags.DEFINE_float(
    "validation_fraction", 0.1, "Share that becomes validation if the source has no such split."
)
_SEVERAL_MASKS = flags.DEFINE_bool(
    "several_masks",
    False,
    "folders: merge all masks of one name, each of an object; or of a class, if --masks holds "
    "{class}. Where they overlap, the last file counts.",
)
_KEEP_TOGETHER = flags.DEFINE_multi_string(
    "keep_together",
    [],
    "Keep in one split the images whose names agree in what this regular expression finds, or in "
    "its first group; or images that look alike: near_duplicates. May be repeated.",
)
_STRATIFY = flags.DEFINE_enum(
    "stratify",
    "",
    STRATIFY,
    "Give each split its share of the images of each class, or of what masks show: presence.",
)
_IMAGE_FEATURE = flags.DEFINE_string("image_feature", "", "tfds: the image's feature.")
_MASK_FEATURE = flags.DEFINE_string("mask_feature", "", "tfds: the mask's feature.")

_SHARD_MIB = flags.DEFINE_float("shard_mib", 128, "Approximate size of a shard, in MiB.")
_SHORT_SIDE = flags.DEFINE_integer(
    "short_side", 0, "Store larger pictures with this short side, in pixels; 0 keeps them."
)
_JPEG_QUALITY = flags.DEFINE_integer(
    "jpeg_quality", 95, "Quality of images that --short_side makes smaller.", 1, 100
)
_STORE = flags.DEFINE_enum(
    "store",
    ENCODED,
    STORES,
    "Store pictures as JPEG and PNG, or raw: their pixels, which training need not decode, in "
    "about ten times the space.",
)
_VALIDATE = flags.DEFINE_enum(
    "validate", "full", VALIDATE, "Decode every picture, or read only headers."
)
_ON_BAD = flags.DEFINE_enum(
    "on_bad", "skip", ON_BAD, "Leave a bad input out and report it, or stop at the first."
)
_ACCEPT_LOSSES = flags.DEFINE_bool(
    "accept_losses",
    False,
    "End with 0 though a class has no pixel, a tenth of the inputs is rejected for one reason, "
    "or palettes contradict each other.",
)
_RUNNER = flags.DEFINE_enum("runner", "local", RUNNERS, "What writes the shards.")
_WORKERS = flags.DEFINE_integer(
    "workers", None, "Processes of the local runner; by default one per core.", lower_bound=1
)
_BEAM_ARGS = flags.DEFINE_list("beam_args", [], "Options for Beam: --runner=FlinkRunner,...")

_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Show what would be converted, look at a sample of it, and write nothing."
)

# Of the others --raw_dir may be a name, or whatever a plugin makes of it.
_FOLDER_SOURCES = set(SOURCES) - {"tfds", "tfrecord"}
_WILDCARD = re.compile(r"[*?\[{]")
_FOR_VALIDATION = "; training needs one: see --validation_fraction and --validation_list"
_LABELS_PRINTED = 30  # for each split; longer label maps are not printed either


def check(arguments: Sequence[str]) -> None:
    """Refuses a wrong command before TensorFlow is loaded."""
    flag_parsing.refuse_arguments(arguments)
    if _SOURCE.value in _FOLDER_SOURCES and not _WILDCARD.search(_RAW_DIR.value):
        path_flags.check_is_there("raw_dir", _RAW_DIR.value, "name the folder of the raw data")


def main(_: Sequence[str]) -> None:
    """Converts what the flags name and reports what became of every input."""
    from petseg.cli import dry_run_report
    from petseg.conversion import dry_run, regroup, review
    from petseg.conversion.convert import convert
    from petseg.data.manifest import FILE_NAME

    load_plugins(_PLUGINS.value, "--plugins")
    if _DRY_RUN.value:
        found = dry_run.look(_options())
        dry_run_report.report(found)
        _report_label_map(found.sampled)
        dry_run_report.print_command()
        return
    was_finished = (epath.Path(_OUTPUT_DIR.value) / FILE_NAME).exists()
    finished = convert(_options(), show_progress=True)
    _report(finished, _OUTPUT_DIR.value)
    if was_finished:
        print("           was finished before; it agrees with its inputs, and is whole")
    for line in [*review.warnings(finished), *regroup.warnings(finished.source)]:
        print(f"warning    {line}")
    if not _ACCEPT_LOSSES.value:
        review.check_losses(finished, _OUTPUT_DIR.value)
    for line in review.losses(finished, _OUTPUT_DIR.value):
        print(f"warning    {line} (accepted)")


def _options() -> "ConvertOptions":
    from petseg.conversion.convert import ConvertOptions

    return ConvertOptions(
        output_dir=_OUTPUT_DIR.value,
        source=_SOURCE.value,
        raw_dir=_RAW_DIR.value,
        name=_NAME.value,
        images=_IMAGES.value,
        masks=_MASKS.value,
        annotations=_ANNOTATIONS.value,
        attribute=_ATTRIBUTE.value,
        classes=_CLASSES.value,
        ignore_id=_IGNORE_ID.value,
        binary=_BINARY.value,
        threshold=_THRESHOLD.value,
        image_range=_IMAGE_RANGE.value,
        **{f"{split}_list": flag.value for split, flag in _LISTS.items()},
        validation_fraction=_VALIDATION_FRACTION.value,
        test_fraction=_TEST_FRACTION.value,
        several_masks=_SEVERAL_MASKS.value,
        keep_together=tuple(_KEEP_TOGETHER.value),
        stratify=_STRATIFY.value,
        image_feature=_IMAGE_FEATURE.value,
        mask_feature=_MASK_FEATURE.value,
        shard_mib=_SHARD_MIB.value,
        short_side_px=_SHORT_SIDE.value,
        jpeg_quality=_JPEG_QUALITY.value,
        store=_STORE.value,
        validate=_VALIDATE.value,
        on_bad=_ON_BAD.value,
        runner=_RUNNER.value,
        workers=_WORKERS.value,
        beam_args=tuple(_BEAM_ARGS.value),
        plugins=tuple(_PLUGINS.value),
    )


def _report(finished: "Manifest", output_dir: str) -> None:
    from petseg.cli import dry_run_report
    from petseg.data import findings
    from petseg.data.manifest import FILE_NAME

    for name, split in finished.splits.items():
        counts = split.pixels_per_label
        pixels = sum(counts.values())
        shown = sorted(sorted(counts, key=lambda label: -counts[label])[:_LABELS_PRINTED])
        labels = ", ".join(f"{finished.raw_labels[v]} {counts[v] / pixels:.1%}" for v in shown)
        if len(counts) > len(shown):
            labels += f" and {len(counts) - len(shown)} rarer ones"
        print(
            f"{name:<10} {split.records:>7,} images in {len(split.shards)} shard(s), "
            f"{split.bytes / 1e6:,.1f} MB, mean {split.mean_width:.0f}x{split.mean_height:.0f} px"
            f"; {labels or 'labels not counted (--validate=header)'}"
        )
    for split in SPLITS:
        if split not in finished.splits:
            is_needed = split == "validation" and "train" in finished.splits
            print(f"{split:<10} none{_FOR_VALIDATION if is_needed else ''}")
    dry_run_report.print_raw(finished)
    print(f"split by   {finished.source['split_by']}")
    rest = f" (all in {output_dir}/{findings.FILE_NAME if finished.findings else FILE_NAME})"
    for what, all_of in (("repaired", findings.repaired), ("rejected", findings.rejected)):
        dry_run_report.print_findings(what, all_of(output_dir, finished), rest)
    _report_label_map(finished)
    print(f"data set   {output_dir}")


def _report_label_map(finished: "Manifest") -> None:
    """Prints the label map to train with, unless the source has label maps of its own."""
    if SOURCES.get(_SOURCE.value).raw_labels:
        return
    from petseg.data.label_map import own_label_map

    try:
        ignored = () if _IGNORE_ID.value is None else (_IGNORE_ID.value,)
        label_map = own_label_map(finished, ignored)
    except UserError as error:
        print(f"label map  none: {error}")
        return
    if label_map.num_classes > _LABELS_PRINTED:
        print(f"label map  {label_map.num_classes} classes, the default of config.data.label_map")
        return
    print(f"label map  --config.data.label_map={label_map.spec()!r}")


def run() -> None:
    """The console entry point."""
    command.run(main, ("source", "raw_dir", "output_dir", "classes", "short_side"), check=check)


if __name__ == "__main__":
    run()
