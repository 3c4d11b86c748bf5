"""What the raw values of a mask mean: ordered classes, and values to ignore."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from petseg.errors import UserError

IGNORE = 255  # the class id of a pixel that neither trains nor counts
UNKNOWN = 254  # the class id of a raw value that no label map names
MAX_CLASSES = 254

PRESETS = {
    "three_class": "pet=1; background=2; border=3",
    "border_ignored": "pet=1; background=2; ignored=3",
    "border_is_pet": "pet=1,3; background=2",
}


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """Ordered classes with their raw mask values; class i has id i.

    Attributes:
      names: the class names, in the order of their ids.
      raw_values: for each class the raw values (0-255) that become it.
      ignored: raw values (0-255) whose pixels become IGNORE.
    """

    names: tuple[str, ...]
    raw_values: tuple[tuple[int, ...], ...]
    ignored: tuple[int, ...] = ()

    @property
    def num_classes(self) -> int:
        """The number of classes, ignored values not counted."""
        return len(self.names)

    def spec(self) -> str:
        """The label map as the text that `parse_label_map` reads."""
        parts = [
            f"{name}={','.join(map(str, values))}"
            for name, values in zip(self.names, self.raw_values, strict=True)
        ]
        if self.ignored:
            parts.append(f"ignored={','.join(map(str, self.ignored))}")
        return "; ".join(parts)

    def class_ids(self) -> np.ndarray:
        """A uint8 table of shape [256]: raw value -> class id, or IGNORE."""
        table = np.full(256, UNKNOWN, np.uint8)
        for class_id, values in enumerate(self.raw_values):
            table[list(values)] = class_id
        table[list(self.ignored)] = IGNORE
        return table

    def classes_in(self, other: "LabelMap") -> tuple[int | None, ...] | None:
        """For each class the class of another label map that it belongs to.

        A class whose raw values the other one ignores has None.

        Returns:
          None if predictions of these classes cannot be read by the other label map: it tells
          apart, or names, what these classes do not.
        """
        table, own = other.class_ids(), []
        for values in self.raw_values:
            targets = {int(table[value]) for value in values} - {IGNORE}
            if len(targets) > 1 or UNKNOWN in targets:
                return None
            own.append(targets.pop() if targets else None)
        return tuple(own) if set(own) - {None} == set(range(other.num_classes)) else None

    def check_covers(self, raw_values: Iterable[int], where: str) -> None:
        """Raises UserError if a raw value of the data set is in no class.

        Checked once against the manifest's counts, so that no pixel needs a
        check while training.
        """
        table = self.class_ids()
        unknown = sorted(v for v in raw_values if table[v] == UNKNOWN)
        if unknown:
            raise UserError(
                f"config.data.label_map: {where} has mask values "
                f"{', '.join(map(str, unknown))} that '{self.spec()}' neither names nor "
                "ignores; add them to a class or to 'ignored='"
            )


def parse_label_map(text: str) -> LabelMap:
    """Reads a preset's name, or 'name=values; ...; ignored=values'.

    Example: 'road=7; car=26,27; ignored=0,255'.

    Raises:
      UserError: the text is neither a preset nor well formed, or a raw value is
        named twice or lies outside 0-255.
    """
    names, raw_values, ignored = [], [], ()
    for part in PRESETS.get(text, text).split(";"):
        name, equals, values = (piece.strip() for piece in part.partition("="))
        if not (name and equals):
            raise UserError(
                f"config.data.label_map: '{text}' is neither one of "
                f"{', '.join(PRESETS)} nor 'name=values; ...; ignored=values'"
            )
        parsed = _parse_values(values, text)
        if name == "ignored":
            ignored += parsed
        else:
            names.append(name)
            raw_values.append(parsed)
    _check_once(names, "class", text)
    _check_once([v for values in raw_values for v in values] + list(ignored), "value", text)
    if not 2 <= len(names) <= MAX_CLASSES:
        raise UserError(
            f"config.data.label_map: '{text}' has {len(names)} classes; "
            f"from 2 to {MAX_CLASSES} are possible"
        )
    return LabelMap(tuple(names), tuple(raw_values), ignored)


def _parse_values(values: str, text: str) -> tuple[int, ...]:
    try:
        parsed = tuple(int(value) for value in values.split(","))
    except ValueError:
        parsed = (-1,)
    if any(not 0 <= value <= 255 for value in parsed):
        raise UserError(
            f"config.data.label_map: '{values}' in '{text}' must be mask values "
            "from 0 to 255, separated by commas"
        )
    return parsed


def _check_once(items: list, what: str, text: str) -> None:
    twice = sorted({item for item in items if items.count(item) > 1})
    if twice:
        raise UserError(f"config.data.label_map: {what} {twice[0]} stands twice in '{text}'")


def own_label_map(manifest):
    return parse_label_map("; ".join(f"{n}={v}" for v, n in sorted(manifest.raw_labels.items())))
