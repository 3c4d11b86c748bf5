"""Merges the masks of one image, a file for each object or for each class, to one mask."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from petseg.conversion import files, masks
from petseg.conversion.masks import CheckedMask
from petseg.conversion.sources.base import MaskRules, SeveralMasks, SourceExample, Unreadable
from petseg.data import record
from petseg.data.label_map import IGNORED
from petseg.data.picture_file import BadFile
from petseg.errors import UserError, shown

_BACKGROUND, _FOREGROUND = (0, "background"), (1, "foreground")
_MOST_CLASSES = 255  # besides the background
_NOT_IN_NAMES = ";=,"  # as in a class file


def check_masks(
    example: SourceExample,
    mask_files: Sequence[bytes],
    rules: MaskRules,
    *,
    decode: bool = True,
    known: np.ndarray | None = None,
) -> CheckedMask:
    """Checks an example's mask, or merges its masks to one.

    Of several masks, each pixel that is not zero gets the value of its file; pixels of the
    ignored value stay ignored. Where files overlap, the last one by its path counts.

    Args:
      example: The example.
      mask_files: What its mask files contain.
      rules: What the mask may contain.
      decode: Decode a mask that need not be re-encoded; several are always decoded.
      known: Of a single mask, see masks.check_mask.

    Raises:
      BadFile: A mask is damaged or not what the rules allow, or sizes differ.
    """
    if not isinstance(example.pair, SeveralMasks):
        (content,) = mask_files
        return masks.check_mask(content, rules, decode=decode, known=known)
    of_file = _rules_of_one_file(rules)
    merged: np.ndarray | None = None
    repaired = 0
    for stored, value, content in zip(
        example.pair.masks, example.pair.values, mask_files, strict=True
    ):
        try:
            checked = masks.check_mask(content, of_file)
        except BadFile as reason:
            between = ", in " if ": " in str(reason) else ": "
            raise BadFile(f"{reason}{between}{shown(stored.name)}") from reason
        labels = decode_labels(checked)
        if merged is None:
            merged = np.zeros_like(labels)
        if labels.shape != merged.shape:
            raise BadFile(
                "the image's masks differ in size: "
                f"{shown(stored.name)} is {labels.shape[1]}x{labels.shape[0]} px, the first one "
                f"{merged.shape[1]}x{merged.shape[0]}"
            )
        repaired += checked.repair is not None
        merged[labels != 0] = value
        if rules.ignored:
            merged[labels == rules.ignored] = rules.ignored
    repair = f"mask: {repaired} of its files re-encoded" if repaired else None
    counts = masks.count_labels(merged, rules)
    return CheckedMask(masks.encode_mask(merged), *merged.shape, counts, repair)


def _rules_of_one_file(rules: MaskRules) -> MaskRules:
    """Returns what a file may contain whose pixels are the object, or not."""
    names = None
    if rules.threshold is not None:  # it needs a value for each side
        values = [value for value in range(3) if value != rules.ignored][:2]
        names = dict.fromkeys([*values, *([] if rules.ignored is None else [rules.ignored])], "")
    return dataclasses.replace(rules, names=names, values_of_colours={}, stored_as={})


def check_example(example: SourceExample, rules: MaskRules) -> CheckedMask | None:
    """Reads and checks an example's mask; None if it has no good one, as conversion will say."""
    try:
        _, *mask_files = example.pair.read()
        return check_masks(example, mask_files, rules)
    except (BadFile, Unreadable):
        return None


def decode_labels(checked: CheckedMask) -> np.ndarray:
    """Returns the uint8 [height, width] raw labels of a checked mask."""
    return np.asarray(record.decode_mask(checked.encoded))[..., 0]


def rules_of_objects(rules: MaskRules) -> tuple[MaskRules, Callable[[str], int]]:
    """Returns the rules, and path -> raw value, where each file is an object of one class.

    That is the class file's only class besides 0; without one it is 1, 'foreground'.

    Args:
      rules: According to the class file.

    Raises:
      UserError: The class file names several classes.
    """
    named = {v: name for v, name in (rules.names or {}).items() if v and v != rules.ignored}
    if rules.names is None:
        named = dict([_FOREGROUND])
    if len(named) != 1:
        raise UserError(
            f"--several_masks: --classes names {len(named)} classes besides 0, so that no file's "
            "class is known; name one, or name the class in the path: --masks='.../*_{class}.png'"
        )
    (value,) = named
    return _rules(rules, named), lambda _: value


def rules_of_classes(
    rules: MaskRules, pattern: str, paths: Iterable[str]
) -> tuple[MaskRules, Callable[[str], int]]:
    """Returns the rules, and path -> raw value, where each file's path names its class.

    The values are those of the class file; without one they are 1 and so on, by name.

    Args:
      rules: According to the class file.
      pattern: What --masks was, with {class}.
      paths: The mask files.

    Raises:
      UserError: The class file lacks a class, or a name can be none.
    """
    class_of = files.class_reader(pattern)
    count = collections.Counter(map(class_of, paths))
    if rules.names is None:
        value_of = {name: value for value, name in enumerate(sorted(count), 1)}
        _check_names(count)
        named = {value: name for name, value in value_of.items()}
    else:
        value_of = {name: value for value, name in rules.names.items()}
        named = {}
        for name in sorted(count):
            if name not in value_of:
                raise UserError(
                    f"--masks: {{class}} is {shown(name)!r} in {count[name]:,} paths, a class that "
                    "--classes does not name"
                )
    return _rules(rules, named), lambda path: value_of[class_of(path)]


def _rules(rules: MaskRules, named: Mapping[int, str]) -> MaskRules:
    names = {**dict([_BACKGROUND]), **(rules.names or {}), **named}
    if rules.ignored is not None:
        names[rules.ignored] = IGNORED
    return dataclasses.replace(rules, names=dict(sorted(names.items())), values_of_colours={})


def _check_names(count: Mapping[str, int]) -> None:
    if len(count) > _MOST_CLASSES:
        raise UserError(f"--masks: {{class}} is {len(count):,} names; at most {_MOST_CLASSES}")
    for name in sorted(count):
        if not name.isprintable() or set(name) & set(_NOT_IN_NAMES) or name == IGNORED:
            raise UserError(f"--masks: {{class}} is {shown(name)!r}, which cannot be a class name")
