"""Checks that a data set is what its manifest says, and draws a sample of it.

  petseg-verify --data_dir=OUT [--quick] [--contact_sheet=FILE.png]

Decodes every record and checks it, its shard's size, SHA-256 and counts, and lists images
of different splits that look alike; --quick compares only sizes, hashes and counts. A fault is
one line that names shard and record; a note says what training will ask for. With --json, or
where standard output is no terminal, the last line is JSON. Statuses: 0 no fault; 1 a fault
was found; 2 a wrong command or no data set.
"""

import collections
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags
from etils import epath

from petseg.cli import command, flag_parsing, json_flag, path_flags
from petseg.cores import usable_cores
from petseg.errors import FaultFound, UserError, shown

if TYPE_CHECKING:
    from PIL import Image

    from petseg.data.manifest import Manifest
    from petseg.verification.near_duplicates import NearDuplicate
    from petseg.verification.shard_check import ShardReport

_DATA_DIR = path_flags.define("data_dir", None, "Folder that petseg-convert wrote.", required=True)
_QUICK = flags.DEFINE_bool("quick", False, "Compare only sizes and hashes.")
_CONTACT_SHEET = path_flags.define(
    "contact_sheet", None, "PNG to draw: a sample of every split, and pixels per class."
)
_WORKERS = flags.DEFINE_integer("workers", None, "Processes; by default one per core.", 1)
_PRINT_JSON = json_flag.define()

_PAIRS_PRINTED, _PAIRS_IN_JSON = 10, 100
_NAMES_PRINTED = 5


def check(arguments: Sequence[str]) -> None:
    """Refuses a wrong command before TensorFlow is loaded."""
    flag_parsing.refuse_arguments(arguments)
    path_flags.check_is_data_set("data_dir", _DATA_DIR.value)
    if _CONTACT_SHEET.value and not _CONTACT_SHEET.value.lower().endswith(".png"):
        raise UserError(f"--contact_sheet={_CONTACT_SHEET.value} must end with .png")


def main(_: Sequence[str]) -> None:
    """Checks the data set and prints every fault."""
    from petseg.data import findings, manifest, shard_hashes
    from petseg.verification import contact_sheet, folder_check

    data_dir = _DATA_DIR.value
    finished = manifest.read_manifest(data_dir)
    if _CONTACT_SHEET.value:
        _make_folder_of(_CONTACT_SHEET.value)
    faults = folder_check.unlisted_shards(data_dir, finished)
    faults += folder_check.tfds_faults(data_dir, finished)
    faults += [fault] if (fault := findings.fault(data_dir, finished)) else []
    near: list[NearDuplicate] | None = None
    not_saved = ""
    if _QUICK.value:
        faults += shard_hashes.check_shards(data_dir, finished.splits.values(), hashes=True)
    else:
        reports = _check_records(data_dir, finished)
        faults += [fault for of_split in reports.values() for r in of_split for fault in r.faults]
        faults += _duplicate_names(reports)
        near = _near_duplicates(reports)
        _print_near(near)
    for fault in faults:
        print(f"fault      {fault}")
    for note in folder_check.training_notes(data_dir, finished):
        print(f"note       no training by default: {note}")
    if _CONTACT_SHEET.value and not faults:
        not_saved = _save(contact_sheet.draw_contact_sheet(data_dir, finished))
        print(f"sheet      {not_saved or _CONTACT_SHEET.value}")
    if not faults:
        records = sum(split.records for split in finished.splits.values())
        shards = sum(len(split.shards) for split in finished.splits.values())
        what = "sizes, hashes and counts agree" if _QUICK.value else "no fault"
        print(f"verified   {records:,} images in {shards:,} shard(s): {what}")
    _PRINT_JSON(_summary(data_dir, finished, faults, near))
    if faults:
        raise FaultFound(f"{len(faults):,} fault(s) in {data_dir}; run petseg-convert again")
    if not_saved:
        raise FaultFound(f"--contact_sheet: {not_saved}")


def _make_folder_of(file: str) -> None:
    """Makes the folder of a file before the work begins; raises UserError if it cannot."""
    try:
        epath.Path(file).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--contact_sheet={file}: {error.filename}: {error.strerror}") from error


def _save(sheet: "Image.Image") -> str:
    """Saves the contact sheet; returns why it could not, or ''."""
    file = _CONTACT_SHEET.value
    try:
        with epath.Path(file).open("wb") as opened:
            sheet.save(opened, "PNG")
    except OSError as error:
        return f"{file} cannot be written: {error.strerror or error}"
    return ""


def _check_records(data_dir: str, finished: "Manifest") -> "dict[str, list[ShardReport]]":
    from petseg import processes
    from petseg.data import manifest
    from petseg.verification.shard_check import ShardTask, check_shard

    tasks, splits = [], []
    for name, split in finished.splits.items():
        for path, shard in zip(manifest.shard_paths(data_dir, split), split.shards, strict=True):
            tasks.append(ShardTask(path, shard, finished.raw_labels, finished.store))
            splits.append(name)
    reports = processes.map_in_processes(
        check_shard,
        tasks,
        [task.metadata.records for task in tasks],
        workers=_WORKERS.value or usable_cores(),
        what="verify",
        show_progress=True,
    )
    by_split: dict[str, list[ShardReport]] = {}
    for split, report in zip(splits, reports, strict=True):
        by_split.setdefault(split, []).append(report)
    return by_split


def _duplicate_names(reports: "dict[str, list[ShardReport]]") -> list[str]:
    count = collections.Counter(
        name for of_split in reports.values() for report in of_split for name in report.names
    )
    duplicates = [shown(name) for name, number in count.items() if number > 1]
    if not duplicates:
        return []
    more = ", ..." if len(duplicates) > _NAMES_PRINTED else ""
    names = ", ".join(duplicates[:_NAMES_PRINTED]) + more
    return [f"{len(duplicates):,} names are in more than one record: {names}"]


def _near_duplicates(reports: "dict[str, list[ShardReport]]") -> "list[NearDuplicate]":
    import numpy as np

    from petseg.verification.near_duplicates import find_near_duplicates

    prints = {s: np.concatenate([r.prints for r in of]) for s, of in reports.items()}
    names = {s: [name for r in of for name in r.names] for s, of in reports.items()}
    return find_near_duplicates(prints, names)


def _print_near(near: "Sequence[NearDuplicate]") -> None:
    print(f"alike      {_count(near):,} pairs of images of different splits look alike")
    for pair in near[:_PAIRS_PRINTED]:
        more = f"; so in {pair.pairs:,} pairs, as of blank images" if pair.pairs > 1 else ""
        print(
            f"           {shown(pair.first)} ({pair.first_split}) and {shown(pair.second)} "
            f"({pair.second_split}), {pair.distance} of 128 bits differ{more}"
        )
    if len(near) > _PAIRS_PRINTED:
        print(f"           and {_count(near[_PAIRS_PRINTED:]):,} more")


def _count(near: "Sequence[NearDuplicate]") -> int:
    return sum(one.pairs for one in near)


def _summary(
    data_dir: str, finished: "Manifest", faults: Sequence[str], near: "list[NearDuplicate] | None"
) -> dict:
    return {
        "data_dir": data_dir,
        "mode": "quick" if _QUICK.value else "full",
        "ok": not faults,
        "records": {name: split.records for name, split in finished.splits.items()},
        "shards": {name: len(split.shards) for name, split in finished.splits.items()},
        "faults": len(faults),
        "near_duplicates": None if near is None else _count(near),
        "near_duplicate_pairs": [dataclasses.asdict(p) for p in (near or [])[:_PAIRS_IN_JSON]],
    }


def run() -> None:
    """The console entry point."""
    command.run(main, ("data_dir", "contact_sheet", "quick", "workers"), check=check)


if __name__ == "__main__":
    run()
