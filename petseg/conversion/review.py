"""What a finished data set lost on the way: findings by kind, classes without a pixel."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence

from petseg.conversion import grey_masks, palettes
from petseg.conversion.image_index import AMBIGUOUS, IMAGE_MISSING, SECOND_ANNOTATION
from petseg.conversion.pairing import NO_PAIR
from petseg.conversion.splits import OUTSIDE
from petseg.data import findings
from petseg.data.label_map import IGNORED, unnamed
from petseg.data.manifest import Finding, Manifest
from petseg.errors import FaultFound
from petseg.registry import SOURCES

_MANY_SHARE, _MANY = 0.1, 2  # of all inputs; and in number
_MANY_VALUES, _BLURRED_VALUES, _RARE_SHARE = 50, 4, 0.001  # of unnamed mask values
_SLIP_SHARE = 1e-4  # of the pixels, below which a value without a name is likely a slip
_VOID, _VOID_NAMES = 255, ("void", "ignore", "unlabeled", "unlabelled", "unknown", "don't care")
_NAMED = 8  # classes, in a line
_NUMBERED = 5  # values without names, as instances are numbered
_REPAIRED = ("image", "mask")
_NUMBER = re.compile(r"\d[\d,.x]*")


@dataclasses.dataclass
class Kind:
    """Findings whose reasons are equal but for numbers and what follows ': '.

    Attributes:
      title: The reason; numbers that differ are '#'.
      count: The number of findings.
      first: The first of them.
    """

    title: str
    count: int
    first: list[Finding]


def by_kind(found: Iterable[Finding], most: int = 5) -> list[Kind]:
    """Groups findings by their kind, in the order of the first of each; keeps `most` of each."""
    kinds: dict[str, Kind] = {}
    for finding in found:
        head = _head(finding)
        pattern = _NUMBER.sub("#", head)
        kind = kinds.setdefault(pattern, Kind(head, 0, []))
        kind.count += 1
        if head != kind.title:
            kind.title = pattern
        if len(kind.first) < most:
            kind.first.append(finding)
    return list(kinds.values())


def particulars(finding: Finding) -> str:
    """Returns what a rejection's reason says of this input alone; empty if nothing."""
    if finding.reason.partition(": ")[0] in _REPAIRED:
        return ""
    return finding.reason[len(_head(finding)) :].removeprefix(": ")


def is_loss(finding: Finding) -> bool:
    """Whether an input that was rejected is one that the data set should have had.

    An image in no list, a text file or a hidden folder is none.
    """
    lost = (*NO_PAIR, OUTSIDE, IMAGE_MISSING, AMBIGUOUS, SECOND_ANNOTATION)
    return bool(finding.split) or _head(finding) in lost


def losses(finished: Manifest, data_dir: str) -> list[str]:
    """Returns a line for classes without a pixel, and one for each kind that rejected many inputs.

    Many are a tenth of all inputs, but two at least. Inputs that nobody asked for, such as
    images in no list, are not counted; nor is a pixel if only headers were read.

    Raises:
      UserError: The findings cannot be read.
    """
    pixels = _pixels(finished)
    lines = _lacking(finished, [v for v in finished.raw_labels if pixels and not pixels.get(v)], "")
    kinds = by_kind(filter(is_loss, findings.rejected(data_dir, finished)))
    lost = sum(kind.count for kind in kinds)
    total = sum(split.records for split in finished.splits.values()) + lost
    for kind in kinds:
        if kind.count >= max(_MANY, _MANY_SHARE * total):
            lines.append(f"{kind.count:,} of {total:,} inputs are rejected: {kind.title}")
    if contradiction := palettes.contradiction(findings.repaired(data_dir, finished)):
        lines.append(contradiction)
    repaired = findings.repaired(data_dir, finished)
    if line := grey_masks.contradiction(repaired, finished.raw_labels, pixels):
        lines.append(line)
    return lines


def check_losses(finished: Manifest, output_dir: str) -> None:
    """Raises FaultFound if a data set lost a class, labels or many inputs; see `losses`."""
    if lines := losses(finished, output_dir):
        raise FaultFound(
            f"{output_dir} is written, but {'; '.join(lines)}. Correct the inputs or --classes "
            "and convert into a new folder, or accept it with --accept_losses"
        )


def warnings(finished: Manifest) -> list[str]:
    """Returns one line for each thing that training would suffer from, besides losses."""
    return [*_doubtful_classes(finished), *_unlearnable_classes(finished)]


def _unlearnable_classes(finished: Manifest) -> list[str]:
    pixels, train = _pixels(finished), finished.splits.get("train")
    if not pixels or not train:
        return []
    lacking = [
        v for v in finished.raw_labels if pixels.get(v) and not train.pixels_per_label.get(v)
    ]
    return _lacking(finished, lacking, " of train")


def _lacking(finished: Manifest, values: Sequence[int], where: str) -> list[str]:
    """Returns a line that names the classes, without ignored values, that have no pixel."""
    values = [value for value in values if finished.raw_labels[value] != IGNORED]
    if not values:
        return []
    names = [f"'{finished.raw_labels[v]}' (mask value {v})" for v in values[:_NAMED]]
    more = f" and {len(values) - _NAMED} more" if len(values) > _NAMED else ""
    return [f"no pixel{where} is of class {', '.join(names)}{more}"]


def _doubtful_classes(finished: Manifest) -> list[str]:
    """Returns a line if values became classes that are likely none: blurred edges, void."""
    pixels = _pixels(finished)
    nameless = [v for v in pixels if finished.raw_labels.get(v) == unnamed(v)]
    total = sum(pixels.values())
    if sorted(pixels) == [0, _VOID] and len(nameless) == 2:
        return [
            "masks hold 0 and 255 alone: if they are background and one class, convert with "
            "--binary, which names them"
        ]
    rare = [value for value in nameless if pixels[value] < _RARE_SHARE * total]
    if len(nameless) >= _MANY_VALUES or len(rare) >= max(_BLURRED_VALUES, len(nameless) / 2):
        return [
            f"masks hold {len(nameless)} values, each of which is a class now; {len(rare)} have "
            f"less than {_RARE_SHARE:.1%} of the pixels each, as blurred edges give (smoothing, "
            "resizing, JPEG). Save masks without smoothing, or name the classes in --classes; "
            "masks of one class can be read with --threshold=128"
        ]
    lines = []
    source = finished.source.get("source")
    if source in SOURCES and SOURCES.get(source).raw_labels:  # known, whatever they are called
        return lines
    if len(nameless) >= _NUMBERED and sorted(pixels) == list(range(len(nameless))):
        lines.append(
            f"masks hold the values 0 to {len(nameless) - 1} without names, each of which is a "
            "class now: name them in --classes, or, if they number objects, convert with --binary"
        )
    slips = [v for v in nameless if v not in (0, _VOID) and pixels[v] < _SLIP_SHARE * total]
    if slips:
        found = ", ".join(f"{value} ({pixels[value]:,} px)" for value in slips)
        ignored = f" or convert with --ignore_id={slips[0]}" if len(slips) == 1 else ""
        lines.append(
            f"rare mask values are classes now: {found} of {total:,} pixels; if they are slips, "
            f"correct the masks{ignored}; if not, name all classes in --classes"
        )
    for value, name in finished.raw_labels.items():
        is_unnamed_void = value == _VOID and value in nameless and len(nameless) > 2
        if is_unnamed_void or (name != IGNORED and name.lower() in _VOID_NAMES):
            lines.append(
                f"'{name}' is a class now; if it marks pixels without one, convert with "
                f"--ignore_id={value}"
            )
    return lines


def _head(finding: Finding) -> str:
    head, _, rest = finding.reason.partition(": ")
    # A repair begins with what was repaired.
    return f"{head}: {rest.partition(': ')[0]}" if head in _REPAIRED else head


def _pixels(finished: Manifest) -> Mapping[int, int]:
    """Returns raw value -> pixels of all splits; empty if they were not counted."""
    # With headers alone only masks that were re-encoded are counted.
    if finished.source.get("validate") == "header":
        return {}
    total: dict[int, int] = {}
    for split in finished.splits.values():
        for value, count in split.pixels_per_label.items():
            total[value] = total.get(value, 0) + count
    return total
