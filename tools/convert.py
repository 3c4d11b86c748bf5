"""Converts raw images and masks into TFRecord shards, once.

  python tools/convert.py --source=oxford_iiit_pet --raw_dir=DIR --output_dir=OUT

reads DIR/images/*.jpg, DIR/annotations/trimaps/*.png and the lists
DIR/annotations/trainval.txt and test.txt, and writes shards, TFDS's metadata and
manifest.json to OUT. Statuses: 0 done; 1 a bad input with --on_bad=fail; 2 a wrong
command or folder.
"""

import collections
from collections.abc import Sequence

from petseg import command_line  # isort: skip  (quiets TensorFlow before it loads)
from absl import flags

from petseg.conversion import sources, write_dataset
from petseg.errors import UserError
from petseg.manifest import FILE_NAME, Finding, Manifest

_SOURCE = flags.DEFINE_enum("source", "oxford_iiit_pet", ["oxford_iiit_pet"], "Layout of raw_dir.")
_RAW_DIR = flags.DEFINE_string("raw_dir", None, "Folder with the raw data.", required=True)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "New or empty folder for the data set.", required=True
)
_NAME = flags.DEFINE_string("name", "pets", "First part of every shard's file name.")
_VALIDATION_FRACTION = flags.DEFINE_float(
    "validation_fraction", 0.1, "Share of each breed's trainval names that becomes validation."
)
_SHARD_MIB = flags.DEFINE_float("shard_mib", 128, "Size of a shard to come near to, in MiB.")
_ON_BAD = flags.DEFINE_enum(
    "on_bad", "skip", ["skip", "fail"], "Leave a bad input out and name it, or stop at the first."
)
_NAMED_PER_REASON = 5  # on the screen; the manifest names all


def main(arguments: Sequence[str]) -> None:
    """Converts what the flags name and prints what became of every input."""
    if arguments:
        raise UserError(f"unexpected argument '{arguments[0]}'; every option is a --flag")
    if not _SHARD_MIB.value > 0:
        raise UserError(f"--shard_mib={_SHARD_MIB.value} must be above 0")
    if not _NAME.value.isidentifier() or not _NAME.value.islower():
        raise UserError(f"--name={_NAME.value} must be lower-case letters, digits and underscores")
    listing = sources.list_oxford_iiit_pet(_RAW_DIR.value, _VALIDATION_FRACTION.value)
    finished = write_dataset.write_dataset(
        listing,
        _OUTPUT_DIR.value,
        name=_NAME.value,
        source={
            "source": _SOURCE.value,
            "validation_fraction": _VALIDATION_FRACTION.value,
            "shard_mib": _SHARD_MIB.value,
        },
        shard_mib=_SHARD_MIB.value,
        fail_on_bad=_ON_BAD.value == "fail",
    )
    _report(finished, _OUTPUT_DIR.value)


def _report(finished: Manifest, output_dir: str) -> None:
    for name, split in finished.splits.items():
        pixels = sum(split.pixels_per_label.values())
        labels = ", ".join(
            f"{finished.raw_labels[label]} {count / pixels:.1%}"
            for label, count in split.pixels_per_label.items()
        )
        size_mb = sum(shard.bytes for shard in split.shards) / 1e6
        print(
            f"{name:<10} {split.records:>7,} images in {len(split.shards)} shards, "
            f"{size_mb:,.1f} MB, mean {split.mean_width:.0f}x{split.mean_height:.0f} px; {labels}"
        )
    for split in ("train", "validation", "test"):
        if split not in finished.splits:
            print(f"{split:<10} none: no list names one whose files are here")
    _report_findings("repaired", finished.repaired, output_dir)
    _report_findings("rejected", finished.rejected, output_dir)
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


if __name__ == "__main__":
    command_line.run(main)
