"""Which raw values the labels of annotations become."""

import dataclasses
import re
from collections.abc import Iterable, Mapping

from petseg.conversion.sources.base import MaskRules
from petseg.data.label_map import BACKGROUND, BACKGROUNDS, IGNORED
from petseg.errors import UserError, shown

_IGNORED_LABELS = (IGNORED, "__ignore__")
_IGNORED_VALUE, _LARGEST = 255, 254
_UNFIT = re.compile(r"[;=,\x00-\x1f\x7f-\x9f]")  # a label map's text could not hold it
_NAMED = 8


@dataclasses.dataclass(frozen=True)
class Labels:
    """The raw values of a source's labels.

    Attributes:
      values: Label -> raw value.
      background: The raw value where nothing is annotated.
      rules: What the masks may contain.
    """

    values: Mapping[str, int]
    background: int
    rules: MaskRules


def choose_labels(
    labels: Iterable[str], given: MaskRules, ids: Mapping[str, int] | None = None
) -> Labels:
    """Chooses the raw value of each label.

    The class file decides, if there is one; a label that it does not name has no value then.
    Otherwise the background is 0, and labels keep their ids if all lie from 1 to 254; if not,
    they are numbered from 1 in the order of their names.

    Args:
      labels: All labels that may occur.
      given: What the class file says; its `ignored` is the value of ignored pixels, else 255.
      ids: Label -> id, where the annotations number them.

    Raises:
      UserError: There are more than 254, two of them become one name, or the class file gives
        the background's value to a class.
    """
    ignored = _IGNORED_VALUE if given.ignored is None else given.ignored
    special = dict.fromkeys(_IGNORED_LABELS, ignored)
    if given.names is None:
        names = _number(sorted(set(labels) - {*BACKGROUNDS, *special}), ids, ignored)
        background = 0
    else:
        names = {v: name for v, name in given.names.items() if v != ignored}
        background = _background_of(names)
    names.setdefault(background, BACKGROUND)
    by_name = {name: value for value, name in names.items()}
    values = {label: by_name[_fit(label)] for label in labels if _fit(label) in by_name}
    values |= {**special, **dict.fromkeys(BACKGROUNDS, background)}
    rules = MaskRules(dict(sorted({**names, ignored: IGNORED}.items())), {}, ignored)
    return Labels(values, background, rules)


def _number(labels: list[str], ids: Mapping[str, int] | None, ignored: int) -> dict[int, str]:
    """Returns raw value -> name."""
    if len(labels) > _LARGEST:
        raise UserError(
            f"the annotations have {len(labels):,} labels, and a mask holds at most {_LARGEST}: "
            f"{', '.join(map(shown, labels[:_NAMED]))}...; name those to keep with --classes"
        )
    numbers = dict(ids or {})
    values = [numbers.get(label, 0) for label in labels]
    if len({*values, 0, ignored}) < len(values) + 2 or max(values, default=1) > _LARGEST:
        free = [value for value in range(1, _IGNORED_VALUE + 1) if value != ignored]
        values = free[: len(labels)]
    names: dict[int, str] = {}
    for value, label in zip(values, labels, strict=True):
        if _fit(label) in names.values():
            raise UserError(
                f"two labels become one class name, '{_fit(label)}'; rename one in the annotations"
            )
        names[value] = _fit(label)
    return names


def _background_of(names: Mapping[int, str]) -> int:
    named = [value for value, name in names.items() if name.lower() in BACKGROUNDS]
    if not named and 0 in names:
        raise UserError(
            f"--classes: id 0 is '{names[0]}', but pixels that no shape covers need a value; call "
            f"one id '{BACKGROUND}', or leave 0 free"
        )
    return named[0] if named else 0


def _fit(label: str) -> str:
    """Returns a label as a class name: without what separates classes in a label map."""
    return _UNFIT.sub("_", label).strip() or "_"
