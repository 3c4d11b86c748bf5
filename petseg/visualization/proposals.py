"""Draws the best proposals of a picture for people."""

import numpy as np
from PIL import Image, ImageDraw

from petseg.visualization import fonts, pictures

_LINE_PX = 2
_TEXT_PX = 12


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
    for index in shown:  # texts over all boxes, each on its colour
        left, top = (int(side) for side in boxes[index][:2])
        text, corner = f"{index + 1}: {scores[index]:.2f}", (left, top + _TEXT_PX * index)
        corner = (min(corner[0], image.shape[1]), min(corner[1], image.shape[0] - _TEXT_PX))
        pen.rectangle(fonts.box(pen, corner, text), fill=tuple(table[index].tolist()))
        fonts.write(pen, corner, text)
    return np.asarray(picture)
