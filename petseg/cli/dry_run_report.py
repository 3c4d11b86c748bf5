"""Prints what a look before converting found, and findings grouped by their reason."""

import shlex
import sys
from collections.abc import Iterable

from petseg.conversion import review
from petseg.conversion.dry_run import DryRun
from petseg.data.manifest import Finding, Manifest
from petseg.errors import FaultFound

_VALUES_PRINTED = 30
_FLAG = "dry_run"


def report(found: DryRun) -> None:
    """Prints pairs, splits, values and problems.

    Raises:
      FaultFound: Nothing of the sample could be converted.
    """
    for name, image, mask in found.pairs:
        print(f"pair       {name}: {image} + {mask}")
    total = sum(found.images_per_split.values())
    by_split = ", ".join(f"{n:,} {split}" for split, n in found.images_per_split.items())
    print(f"pairs      {total:>7,}: {by_split}")
    print(f"split by   {found.split_by}")
    print_findings("not paired", found.not_listed)
    sampled = found.records + len(found.rejected)
    print(f"sample     {sampled:>7,} of {total:,}, {found.records:,} of them good")
    print_raw(found.sampled, found.records and total / sampled)
    _print_values(found)
    print_findings("repaired", found.repaired)
    print_findings("rejected", found.rejected)
    for line in found.warnings:
        print(f"warning    {line}")
    if not found.records:
        most = max(review.by_kind(found.rejected), key=lambda kind: kind.count)
        raise FaultFound(
            f"not one of {sampled:,} sampled images could be converted; {most.count:,} for one "
            f"reason: {most.title}"
        )


def print_command() -> None:
    """Prints the command that converts."""
    flags = [flag for flag in sys.argv[1:] if flag.lstrip("-").partition("=")[0] != _FLAG]
    print(f"nothing is written; to convert: petseg-convert {shlex.join(flags)}")


def print_raw(stored: Manifest, times: float = 1.0) -> None:
    """Prints what decoded pictures take, if they are stored so; `times` what is in a manifest."""
    encoded = sum(split.encoded_bytes for split in stored.splits.values())
    if not encoded:
        return
    size = sum(split.bytes for split in stored.splits.values())
    about = "" if times == 1 else "about "
    print(
        f"store      raw: {about}{size * times / 1e6:,.1f} MB, {size / encoded:.1f} times the "
        "encoded pictures"
    )


def print_findings(what: str, findings: Iterable[Finding], more_in: str = "") -> None:
    """Prints how many inputs there are of each kind, and the names of some.

    Args:
      what: What became of them.
      findings: The inputs and the reasons.
      more_in: Where the other names are.
    """
    kinds = review.by_kind(findings)
    print(f"{what:<10} {sum(kind.count for kind in kinds):>7,}")
    for kind in kinds:
        names = ", ".join(_named(finding) for finding in kind.first)
        more = kind.count - len(kind.first)
        rest = f" and {more:,} more{more_in}" if more > 0 else ""
        print(f"  {kind.count:>5,} {kind.title}: {names}{rest}")


def _named(finding: Finding) -> str:
    particulars = review.particulars(finding)
    return f"{finding.name} ({particulars})" if particulars else finding.name


def _print_values(found: DryRun) -> None:
    """Prints the share of each value."""
    pixels: dict[int, int] = {}
    for split in found.sampled.splits.values():
        for value, count in split.pixels_per_label.items():
            pixels[value] = pixels.get(value, 0) + count
    total = sum(pixels.values())
    names = found.sampled.raw_labels
    shown = sorted(sorted(pixels, key=lambda value: -pixels[value])[:_VALUES_PRINTED])
    for value in shown:
        name = names.get(value, "")
        print(f"  value {value:>3} {name}: {pixels[value] / total:.2%} of the pixels")
    if len(pixels) > len(shown):
        print(f"  and {len(pixels) - len(shown)} rarer values")
