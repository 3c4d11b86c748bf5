"""Decodes COCO's run-length encoding, in text or in numbers, of data that nobody has checked."""

from collections.abc import Sequence

import numpy as np

_FIRST, _LAST = ord("0"), ord("0") + 63  # of the characters, six bits each
_MORE, _NEGATIVE, _BITS = 0x20, 0x10, 5  # another character follows; the sign; bits of the number
_MAX_BITS = 40  # far more than any run needs


class BadShape(Exception):
    """Raised for a shape that cannot be drawn, so that its image has no true mask."""

    def at(self, place: str) -> "BadShape":
        """Returns the error with the shape's place, apart from what others have in common."""
        return BadShape(f"{self}{', ' if ': ' in str(self) else ': '}{place}")


def decode(counts: str | Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """Decodes runs of pixels, column by column, outside and inside by turns.

    Args:
      counts: The lengths of the runs, or COCO's text of them.
      size: Height and width, in pixels.

    Returns:
      bool [height, width].

    Raises:
      BadShape: The text is damaged, or the runs do not fill the size.
    """
    height, width = size
    if isinstance(counts, str):
        counts = _counts_of_text(counts)
    if any(count < 0 for count in counts):
        raise BadShape("RLE is damaged: a run is negative")
    if (total := sum(counts)) != height * width:
        raise BadShape(f"RLE does not fill its size: {total:,} pixels of {height * width:,}")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(width, height).T


def _counts_of_text(text: str) -> list[int]:
    """Decodes numbers of five bits a character, the lowest first; from the third on, each is
    the difference to the last but one."""
    counts: list[int] = []
    number = shift = 0
    for character in text:
        if not _FIRST <= ord(character) <= _LAST or shift > _MAX_BITS:
            raise BadShape("RLE is damaged: its text is none that COCO writes")
        bits = ord(character) - _FIRST
        number |= (bits & 0x1F) << shift
        shift += _BITS
        if bits & _MORE:
            continue
        if bits & _NEGATIVE:
            number -= 1 << shift
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = shift = 0
    if shift:
        raise BadShape("RLE is damaged: its text ends within a number")
    return counts
