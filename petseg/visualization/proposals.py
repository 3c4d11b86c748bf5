"""Draws the best proposals of a picture for people."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from petseg.visualization import fonts, pictures

_LINE_PX = 2
_TEXT_PX = 12

_Area = tuple[float, float, float, float]  # left, top, right, bottom


def draw(
    image: np.ndarray, boxes: np.ndarray, scores: np.ndarray, masks: np.ndarray, count: int
) -> np.ndarray:
    """Tints the masks of the best proposals, each with its box, its rank and its score.

    Better ones are drawn over worse ones.

    Args:
      image: uint8 [height, width, 3], RGB.
      boxes: int [n, 4], left, top, width and height in pixels; the best first.
      scores: float [n].
      masks: bool [n, height, width].
      count: Most proposals that are drawn.

    Returns:
      uint8 [height, width, 3].
    """
    shown = range(min(count, len(boxes)))
    table, drawn = pictures.colours(max(len(shown), 1), {}), image.copy()
    for index in reversed(shown):
        tinted = pictures.blend(image, np.broadcast_to(table[index], image.shape))
        drawn = np.where(masks[index][..., None], tinted, drawn)
    picture = Image.fromarray(drawn)
    pen = ImageDraw.Draw(picture)
    for index in reversed(shown):
        left, top, width, height = (int(side) for side in boxes[index])
        colour = tuple(table[index].tolist())
        pen.rectangle(
            (left, top, left + width - 1, top + height - 1), outline=colour, width=_LINE_PX
        )
    written: list[_Area] = []
    for index in shown:  # texts over all boxes, each on its colour, none over a better one's
        text = f"{index + 1}: {scores[index]:.2f}"
        left, top = (int(side) for side in boxes[index][:2])
        left = max(min(left, image.shape[1] - math.ceil(fonts.width(pen, text)) - 1), 0)
        top = _free_line(pen, (left, top), text, written, image.shape[0])
        written.append(fonts.box(pen, (left, top), text))
        pen.rectangle(written[-1], fill=tuple(table[index].tolist()))
        fonts.write(pen, (left, top), text)
    return np.asarray(picture)


def _free_line(
    pen: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    taken: Sequence[_Area],
    height: int,
) -> int:
    """Where a text begins that is moved down, or else up, until it hides no other."""
    left, last = corner[0], max(height - _TEXT_PX, 0)
    wanted = min(max(corner[1], 0), last)
    for top in (*range(wanted, last + 1), *range(wanted - 1, -1, -1)):
        area = fonts.box(pen, (left, top), text)
        if not any(_overlap(area, other) for other in taken):
            return top
    return wanted


def _overlap(one: _Area, other: _Area) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]
