"""What the grey values of a mask mean: ids of classes, or colours of the class file."""

from collections.abc import Iterable, Mapping

import numpy as np

from petseg.conversion.sources.base import MaskRules
from petseg.data.label_map import unnamed
from petseg.data.manifest import Finding
from petseg.data.picture_file import BadFile

_AS_COLOURS = "grey values, read as colours of --classes"
_AS_BITS = {  # bits of a pixel -> what is noted of such a mask
    1: "1 bit, stored as 0 and 1",
    2: "2 bits, stored as 0 to 3",
    4: "4 bits, stored as 0 to 15",
}
_SPREAD = {
    1: "1 bit, stored as 0 and 255",
    2: "2 bits, stored as 0 to 255 in steps of 85",
    4: "4 bits, stored as 0 to 255 in steps of 17",
}


def to_labels(grey: np.ndarray, bits: int, rules: MaskRules) -> tuple[np.ndarray, str | None]:
    """Reads the labels of a grey mask.

    The values as the file stores them are ids. Those of fewer than 8 bits are spread over
    0-255, as viewers do, if all ids of the class file are values that arise so: programs that
    make files smaller store 0 and 255 in 1 bit. If not all values are ids, but all are colours
    of the class file (R = G = B), they are colours.

    Args:
      grey: uint8 [height, width], spread over 0-255.
      bits: Bits of a pixel in the file: 1, 2, 4 or 8.
      rules: What the mask may contain.

    Returns:
      uint8 [height, width], not yet compared with the ids; what to note of it, or None.

    Raises:
      BadFile: The values are ids and colours, of different classes.
    """
    step = _step(bits)
    is_spread = bits < 8 and _are_spread(rules, step)
    divisor = 1 if is_spread else step
    if (classes := _classes_of_greys(grey, divisor, rules)) is not None:
        return classes[grey], _AS_COLOURS
    if is_spread:
        return grey, _SPREAD[bits]
    return grey if divisor == 1 else grey // np.uint8(divisor), _AS_BITS.get(bits)


def have_colours(rules: MaskRules) -> bool:
    """Whether a grey value may stand for another id, as a colour of the class file."""
    return any(grey != value for grey, value in _greys(rules).items())


def contradiction(
    repaired: Iterable[Finding], raw_labels: Mapping[int, str], pixels: Mapping[int, int]
) -> str | None:
    """Returns a line if the same class has one value in small masks and another in the rest.

    Without a class file 1 bit gives 0 and 1, though it may be what a program made of 0 and 255.

    Args:
      repaired: All repaired inputs of a data set.
      raw_labels: Raw value -> its name.
      pixels: Raw value -> its pixels.
    """
    few_of_bits = dict.fromkeys(_AS_BITS, 0)
    for finding in repaired:
        for bits, note in _AS_BITS.items():
            few_of_bits[bits] += finding.reason.startswith("mask: ") and note in finding.reason
    for bits, few in few_of_bits.items():
        step = _step(bits)
        large = [value for value, count in pixels.items() if count and value >= 1 << bits]
        if few and large and all(v % step == 0 and raw_labels[v] == unnamed(v) for v in large):
            return (
                f"{few:,} masks of {bits} bit{'s' * (bits > 1)} hold values below {1 << bits}, "
                f"others {', '.join(map(str, large))}, which may be the same class (list the true "
                "values in --classes, and masks of few bits are read accordingly)"
            )
    return None


def _step(bits: int) -> int:
    return 255 // ((1 << bits) - 1)


def _are_spread(rules: MaskRules, step: int) -> bool:
    if rules.names is None:
        return False
    values = {*rules.names, *rules.stored_as} - {rules.ignored}
    return all(value % step == 0 for value in values)


def _classes_of_greys(grey: np.ndarray, divisor: int, rules: MaskRules) -> np.ndarray | None:
    """Returns uint8 [256], grey -> id, if values are colours; None if they are ids."""
    value_of = _greys(rules)
    if not value_of or rules.names is None:
        return None
    held = np.flatnonzero(np.bincount(grey.ravel(), minlength=256)).tolist()
    if not all(g in value_of for g in held):
        return None
    others = [g for g in held if value_of[g] != g // divisor]
    if not others:
        return None
    if all(g // divisor in rules.names for g in held):
        ids = {g // divisor for g in others}
        if rules.ignored in ids - set(rules.values_of_colours.values()):
            return None  # --ignore_id names a value of the masks
        raise BadFile(
            "mask holds grey values that are ids and colours of different classes; give no "
            "colours in --classes if they are ids, save masks as RGB if they are colours: "
            + ", ".join(str(value) for value in sorted(ids))
        )
    table = np.zeros(256, np.uint8)
    for g in held:
        table[g] = value_of[g]
    return table


def _greys(rules: MaskRules) -> dict[int, int]:
    """Returns the id of each grey that is a colour of the class file."""
    return {
        red: value
        for (red, green, blue), value in rules.values_of_colours.items()
        if red == green == blue
    }
