"""Palettes of masks whose indices are the labels: equal indices should have equal colours."""

import collections
import re
from collections.abc import Iterable

import numpy as np
from PIL import Image

from petseg.conversion.class_file import show_colour
from petseg.data.manifest import Finding

AS_INDICES = "palette, stored as its indices"
_COLOUR = re.compile(r"\b(\d+) (#[0-9a-f]{6})\b")


def show_palette(picture: Image.Image, labels: np.ndarray) -> str:
    """Returns the colours of the indices that occur, as '0 #000000, 1 #ff0000'.

    Args:
      picture: Of mode P.
      labels: uint8 [height, width], its indices.
    """
    channels = picture.getpalette("RGB") or []
    colours = {i: tuple(channels[3 * i : 3 * i + 3]) for i in np.unique(labels).tolist()}
    return ", ".join(f"{i} {show_colour(colour)}" for i, colour in colours.items() if colour)


def contradiction(repaired: Iterable[Finding]) -> str | None:
    """Returns a line if an index has different colours in different masks, else None.

    Programs that order a palette by how often, or when, a colour occurs write such masks: then
    the same index is another class in each of them.
    """
    masks: dict[int, collections.Counter[str]] = {}
    for finding in repaired:
        head, _, shown = finding.reason.rpartition(": ")
        if AS_INDICES in head:
            for index, colour in _COLOUR.findall(shown):
                masks.setdefault(int(index), collections.Counter())[colour] += 1
    for index, colours in sorted(masks.items()):
        if len(colours) > 1:
            (often, many), (seldom, few) = colours.most_common(2)
            return (
                f"masks have contradicting palettes, whose indices are the labels: {index} is "
                f"{often} in {many:,} masks and {seldom} in {few:,} (name the colours in "
                "--classes, unless the indices are right)"
            )
    return None
