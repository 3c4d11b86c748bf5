"""Label maps: the classes that the raw values of a mask become, and the values to ignore."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from petseg.data.manifest import Manifest
from petseg.errors import UserError
from petseg.registry import LABEL_MAPS

IGNORE = 255  # the class id of a pixel that neither trains nor counts
UNKNOWN = 254  # the class id of a raw value that the label map does not name
MAX_CLASSES = 254
# The key, in batches, of whether each class is in an image: uint8 [batch, classes], 1, 0 or IGNORE.
IMAGE_LABELS = "image_labels"
BACKGROUND = "background"  # the name of the class of all that is nothing else
BACKGROUNDS = (BACKGROUND, "_background_")  # LabelMe's own name, too
IGNORED = "ignored"  # the name of the values to ignore, in texts and in manifests


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """Ordered classes with their raw mask values; class i has id i.

    Attributes:
      names: Names of the classes, in the order of their ids.
      raw_values: For each class, the raw values (0-255) that become it.
      ignored: Raw values (0-255) whose pixels become IGNORE.
    """

    names: tuple[str, ...]
    raw_values: tuple[tuple[int, ...], ...]
    ignored: tuple[int, ...] = ()

    @property
    def num_classes(self) -> int:
        """The number of classes, without ignored values."""
        return len(self.names)

    def spec(self) -> str:
        """Returns the label map as text that `parse_label_map` reads."""
        parts = [
            f"{name}={','.join(map(str, values))}"
            for name, values in zip(self.names, self.raw_values, strict=True)
        ]
        if self.ignored:
            parts.append(f"{IGNORED}={','.join(map(str, self.ignored))}")
        return "; ".join(parts)

    def class_ids(self) -> np.ndarray:
        """Returns a uint8 table of shape [256]: raw value -> class id, IGNORE or UNKNOWN."""
        table = np.full(256, UNKNOWN, np.uint8)
        for class_id, values in enumerate(self.raw_values):
            table[list(values)] = class_id
        table[list(self.ignored)] = IGNORE
        return table

    def classes_in(self, other: "LabelMap") -> tuple[int | None, ...] | None:
        """Maps each class to the class of another label map that contains it.

        Returns:
          For each class the other label map's class id, or None if that one ignores its raw
          values. None in place of the tuple if predictions of these classes cannot be scored
          by the other label map, because it divides one of them or has further classes.
        """
        table, class_ids = other.class_ids(), []
        for values in self.raw_values:
            targets = {int(table[value]) for value in values} - {IGNORE}
            if len(targets) > 1 or UNKNOWN in targets:
                return None
            class_ids.append(targets.pop() if targets else None)
        is_complete = set(class_ids) - {None} == set(range(other.num_classes))
        return tuple(class_ids) if is_complete else None

    def means(self, raw_labels: Mapping[int, str]) -> bool:
        """Whether each class has a raw value that the data set calls so: raw value -> name."""
        return all(
            name in (raw_labels.get(value) for value in values)
            for name, values in zip(self.names, self.raw_values, strict=True)
        )

    def check_covers(self, raw_values: Iterable[int], where: str) -> None:
        """Raises UserError if a raw value of the data set has no class.

        The check is made once, against the manifest's counts, so that no pixel needs one
        during training.
        """
        table = self.class_ids()
        unknown = sorted(v for v in raw_values if table[v] == UNKNOWN)
        if unknown:
            raise UserError(
                f"config.data.label_map: {where} has mask values "
                f"{', '.join(map(str, unknown))} that {self.spec()!r} neither names nor "
                "ignores; add them to a class or to 'ignored='"
            )


def parse_label_map(text: str) -> LabelMap:
    """Parses a registered name, or 'name=values; ...; ignored=values'.

    Example: 'road=7; car=26,27; ignored=0,255'.

    Raises:
      UserError: The text is neither registered nor well formed, or a raw value is
        duplicated or outside 0-255.
    """
    names, raw_values, ignored = [], [], ()
    for part in (LABEL_MAPS.get(text) if text in LABEL_MAPS else text).split(";"):
        name, equals, values = (piece.strip() for piece in part.partition("="))
        if not (name and equals and name.isprintable()):
            raise UserError(
                f"config.data.label_map: {text!r} is neither one of "
                f"{', '.join(LABEL_MAPS)} nor 'name=values; ...; ignored=values'"
            )
        parsed = _parse_values(values, text)
        if name == IGNORED:
            ignored += parsed
        else:
            names.append(name)
            raw_values.append(parsed)
    _check_once(names, "class", text)
    _check_once([v for values in raw_values for v in values] + list(ignored), "value", text)
    if not 2 <= len(names) <= MAX_CLASSES:
        raise UserError(
            f"config.data.label_map: {text!r} has {len(names)} classes; "
            f"from 2 to {MAX_CLASSES} are possible"
        )
    return LabelMap(tuple(names), tuple(raw_values), ignored)


def foreground(names: Sequence[str]) -> list[int]:
    """The ids of the classes, by their names, but the background, in upper or lower case."""
    return [i for i, name in enumerate(names) if name.lower() not in BACKGROUNDS]


def unnamed(raw_value: int) -> str:
    """The name of a raw value that its source does not name."""
    return f"value_{raw_value}"


def choose_label_map(text: str, manifest: Manifest) -> LabelMap:
    """The label map that a text asks for, or the data set's own if the text is empty.

    A registered name is taken for data that names its values alike, or not at all: on other data
    it would give the classes names that are not theirs. Who means it writes the classes out.

    Raises:
      UserError: The text is no label map (see `parse_label_map`), or a registered one that
        contradicts the names in the manifest; or there is no own label map.
    """
    if not text:
        return own_label_map(manifest)
    label_map, raw_labels = parse_label_map(text), manifest.raw_labels
    is_named = any(name not in (unnamed(value), IGNORED) for value, name in raw_labels.items())
    if text in LABEL_MAPS and is_named and not label_map.means(raw_labels):
        own = "; ".join(f"{name}={value}" for value, name in sorted(raw_labels.items()))
        raise UserError(
            f"config.data.label_map={text} is {label_map.spec()!r}, but data set "
            f"{manifest.name!r} says {own!r}; --config.data.label_map= "
            "takes the data set's own classes; write the classes out if you mean them"
        )
    return label_map


def own_label_map(manifest: Manifest, ignored: Iterable[int] = ()) -> LabelMap:
    """Returns the label map that a data set brings itself: a class for each raw label.

    Args:
      manifest: Of the data set. Its raw labels become classes in ascending order; the one
        named 'ignored' is ignored.
      ignored: Further raw values to ignore.

    Raises:
      UserError: Fewer than two classes remain, or more than MAX_CLASSES.
    """
    to_ignore = {*ignored, *(v for v, name in manifest.raw_labels.items() if name == IGNORED)}
    classes = {
        value: name for value, name in sorted(manifest.raw_labels.items()) if value not in to_ignore
    }
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise UserError(
            f"data set {manifest.name!r} names {len(classes)} classes of mask values, from 2 to "
            f"{MAX_CLASSES} are possible; set config.data.label_map, or convert again with "
            "--classes and --validate=full"
        )
    return LabelMap(
        tuple(classes.values()), tuple((value,) for value in classes), tuple(sorted(to_ignore))
    )


def _parse_values(values: str, text: str) -> tuple[int, ...]:
    try:
        parsed = tuple(int(value) for value in values.split(","))
    except ValueError:
        parsed = (-1,)
    if any(not 0 <= value <= 255 for value in parsed):
        raise UserError(
            f"config.data.label_map: {values!r} in {text!r} must be mask values "
            "from 0 to 255, separated by commas"
        )
    return parsed


def _check_once(items: list, what: str, text: str) -> None:
    duplicates = sorted({item for item in items if items.count(item) > 1})
    if duplicates:
        raise UserError(f"config.data.label_map: {what} {duplicates[0]} is duplicated in {text!r}")
