"""Pictures that people look at: overlays and the image | truth | prediction panel."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from petseg.label_map import IGNORE

# Easy to tell apart, also for the colour-blind (after Okabe and Ito 2008).
_PALETTE = (
    (230, 159, 0),
    (0, 114, 178),
    (240, 228, 66),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (153, 153, 153),
)
_IGNORE_COLOUR = (0, 0, 0)
_OVERLAY_OPACITY = 0.45
_GAP_PX, _TITLE_PX = 4, 16
_TWO_ABREAST_FROM = 4  # examples


def colours(num_classes: int) -> np.ndarray:
    """A uint8 [256, 3] table of RGB colours: class ids, then IGNORE in black."""
    table = np.zeros((256, 3), np.uint8)
    for class_id in range(num_classes):
        # Past the palette's end the same colours come again, each time darker.
        shade = 0.6 ** (class_id // len(_PALETTE))
        table[class_id] = np.round(np.multiply(_PALETTE[class_id % len(_PALETTE)], shade))
    table[IGNORE] = _IGNORE_COLOUR
    return table


def colour_mask(class_ids: np.ndarray, num_classes: int) -> np.ndarray:
    """uint8 [height, width] class ids or IGNORE -> uint8 [height, width, 3]."""
    return colours(num_classes)[class_ids]


def overlay(image: np.ndarray, class_ids: np.ndarray, num_classes: int) -> np.ndarray:
    """Blends an image, uint8 [height, width, 3], with its classes' colours."""
    return blend(image, colour_mask(class_ids, num_classes))


def blend(image: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Lays colours over an image; all uint8 [height, width, 3]."""
    mixed = (1 - _OVERLAY_OPACITY) * image + _OVERLAY_OPACITY * colour
    return np.round(mixed).astype(np.uint8)


def panel(
    images: np.ndarray, truth: np.ndarray, predicted: np.ndarray, names: Sequence[str]
) -> np.ndarray:
    """Image | truth | prediction of each example, under titles and above a legend.

    From four examples on, two stand side by side: a screen is wider than high.

    Args:
      images: uint8 [examples, size, size, 3].
      truth: uint8 [examples, size, size], class ids or IGNORE (drawn black).
      predicted: uint8 [examples, size, size], class ids.
      names: of the classes.

    Returns:
      uint8 [height, width, 3].
    """
    count, size = images.shape[:2]
    side_by_side = 2 if count >= _TWO_ABREAST_FROM else 1
    rows = -(-count // side_by_side)
    step = size + _GAP_PX
    width = side_by_side * (3 * step + _GAP_PX) + _GAP_PX
    canvas = Image.new("RGB", (width, rows * step + 2 * _TITLE_PX), "white")
    draw = ImageDraw.Draw(canvas)
    for example in range(count):
        group, row = divmod(example, rows)
        left = _GAP_PX + group * (3 * step + _GAP_PX)
        cells = {
            "image": images[example],
            "truth": colour_mask(truth[example], len(names)),
            "prediction": colour_mask(predicted[example], len(names)),
        }
        for column, (title, cell) in enumerate(cells.items()):
            x = left + column * step
            canvas.paste(Image.fromarray(cell), (x, _TITLE_PX + row * step))
            if row == 0:
                draw.text((x, 2), title, fill="black")
    _draw_legend(draw, names, bool((truth == IGNORE).any()), _TITLE_PX + rows * step)
    return np.asarray(canvas)


def _draw_legend(
    draw: ImageDraw.ImageDraw, names: Sequence[str], has_ignored: bool, top: int
) -> None:
    left = _GAP_PX
    entries = [(name, tuple(colours(len(names))[i])) for i, name in enumerate(names)]
    if has_ignored:
        entries.append(("ignored", _IGNORE_COLOUR))
    for name, colour in entries:
        draw.rectangle((left, top + 2, left + 10, top + 12), tuple(map(int, colour)))
        draw.text((left + 14, top + 1), name, fill="black")
        left += 22 + int(draw.textlength(name))
