"""Draws images with their masks for people: colours, overlays and panels."""

import functools
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from petseg.data.label_map import IGNORE, MAX_CLASSES, LabelMap
from petseg.visualization import fonts

Colour = tuple[int, int, int]

# Easy to distinguish, also for the colour-blind (Okabe and Ito, "Color Universal Design", 2008).
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
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
# Sums of a colour's channels: those of black, and where further default colours begin and end.
_DARK, _DIM, _PALE = 60, 200, 640
_LEVELS = range(0, 256, 31)  # of each channel, in the further default colours
_WRONG = (230, 30, 30)
_OVERLAY_OPACITY = 0.45
_GAP_PX, _TITLE_PX = 4, 16
_SIDE_BY_SIDE_FROM = 4  # examples
COLUMNS = ("image", "truth", "prediction", "errors")


def colours(num_classes: int, given: Mapping[int, Colour]) -> np.ndarray:
    """Returns a table of RGB colours for class ids and IGNORE: uint8 [256, 3].

    Args:
      num_classes: Number of classes.
      given: Class id -> the colour that the data set gives it. Other classes get a default that
        no class has yet.
    """
    table = np.zeros((256, 3), np.uint8)
    defaults = _defaults()
    taken = set(map(tuple, given.values()))
    unused = (colour for colour in defaults[num_classes:] if colour not in taken)
    for class_id in range(num_classes):
        colour = given.get(class_id, defaults[class_id])
        if class_id not in given and colour in taken:
            colour = next(unused)
        table[class_id] = colour
    is_dark = table[:num_classes].sum(1, dtype=int) < _DARK
    table[IGNORE] = _WHITE if is_dark.any() else _BLACK
    return table


@functools.cache
def _defaults() -> tuple[Colour, ...]:
    """All default colours: _PALETTE, then each as far as possible from those before it."""
    cube = np.array(list(itertools.product(_LEVELS, repeat=3)))
    cube = cube[(cube.sum(1) >= _DIM) & (cube.sum(1) <= _PALE)]
    chosen = list(_PALETTE)
    distance = np.min([((cube - one) ** 2).sum(1) for one in chosen], axis=0)
    while len(chosen) < 2 * MAX_CLASSES:  # some may be taken by given colours
        nearest = cube[distance.argmax()]
        chosen.append(tuple(nearest.tolist()))
        distance = np.minimum(distance, ((cube - nearest) ** 2).sum(1))
    return tuple(chosen)


def palette(label_map: LabelMap, raw_colours: Mapping[int, Colour]) -> np.ndarray:
    """Returns the table of `colours` for a label map.

    Args:
      label_map: The classes; each takes the colour of its first raw value that has one.
      raw_colours: Raw value -> colour, if the data set has colours.
    """
    given = {
        class_id: next(raw_colours[value] for value in values if value in raw_colours)
        for class_id, values in enumerate(label_map.raw_values)
        if not raw_colours.keys().isdisjoint(values)
    }
    return colours(label_map.num_classes, given)


def overlay(
    image: np.ndarray, class_ids: np.ndarray, table: np.ndarray, coloured: Sequence[int]
) -> np.ndarray:
    """Blends an image with the colours of some of its classes.

    Args:
      image: uint8 [height, width, 3].
      class_ids: uint8 [height, width].
      table: Colours, from `palette`.
      coloured: Ids of the classes that are coloured; the others look as in the image.

    Returns:
      uint8 [height, width, 3].
    """
    is_coloured = np.zeros(256, bool)
    is_coloured[list(coloured)] = True
    return np.where(is_coloured[class_ids][..., None], blend(image, table[class_ids]), image)


def blend(image: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Blends an image with a picture of colours; all are uint8 [height, width, 3]."""
    mixed = (1 - _OVERLAY_OPACITY) * image + _OVERLAY_OPACITY * colour
    return np.round(mixed).astype(np.uint8)


def errors(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Draws an image in pale grey with wrong pixels in red and ignored ones in black.

    Args:
      image: uint8 [height, width, 3].
      truth: uint8 [height, width], class ids or IGNORE.
      predicted: uint8 [height, width], class ids.

    Returns:
      uint8 [height, width, 3].
    """
    grey = 128 + image.mean(-1, keepdims=True) / 2
    drawn = np.repeat(grey.astype(np.uint8), 3, axis=-1)
    drawn[truth != predicted] = _WRONG
    drawn[truth == IGNORE] = _BLACK
    return drawn


def panel(
    images: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    predicted: Sequence[np.ndarray],
    names: Sequence[str],
    table: np.ndarray,
    captions: Sequence[str] = (),
    cell_px: int | None = None,
) -> np.ndarray:
    """Draws image | truth | prediction | errors of each example, with titles and a legend.

    Four examples or more are drawn in two columns, because screens are wider than high.

    Args:
      images: uint8 [height, width, 3] each.
      truth: uint8 [height, width] each, class ids or IGNORE.
      predicted: uint8 [height, width] each, class ids.
      names: Names of the classes.
      table: Colours, from `palette`.
      captions: One line for each example, written on its image; empty for none.
      cell_px: Side of the square that each picture is fitted into, in pixels; None if all
        have one size, in which they are drawn.

    Returns:
      uint8 [height, width, 3].
    """
    count = len(images)
    height, width = (cell_px, cell_px) if cell_px else images[0].shape[:2]
    columns = 2 if count >= _SIDE_BY_SIDE_FROM else 1
    rows = -(-count // columns)
    down, across = height + _GAP_PX, width + _GAP_PX
    group_px = len(COLUMNS) * across + _GAP_PX
    canvas = Image.new("RGB", (columns * group_px + _GAP_PX, rows * down + 2 * _TITLE_PX), "white")
    draw = ImageDraw.Draw(canvas)
    for example in range(count):
        group, row = divmod(example, rows)
        cells = (
            images[example],
            table[truth[example]],
            table[predicted[example]],
            errors(images[example], truth[example], predicted[example]),
        )
        left, top = _GAP_PX + group * group_px, _TITLE_PX + row * down
        for title, cell in zip(COLUMNS, cells, strict=True):
            picture = Image.fromarray(cell)
            canvas.paste(_fit(picture, cell_px) if cell_px else picture, (left, top))
            if row == 0:
                draw.text((left, 2), title, fill="black")
            left += across
        if captions:
            _write_on(draw, captions[example], (_GAP_PX + group * group_px, top))
    has_ignored = any((of == IGNORE).any() for of in truth)
    _draw_legend(draw, names, table, has_ignored, _TITLE_PX + rows * down)
    return np.asarray(canvas)


def _fit(picture: Image.Image, side: int) -> Image.Image:
    """Scales a picture to a longer side without mixing its colours."""
    if max(picture.size) == side:
        return picture
    factor = side / max(picture.size)
    sides = [max(round(length * factor), 1) for length in picture.size]
    return picture.resize(sides, Image.Resampling.NEAREST)


def _write_on(draw: ImageDraw.ImageDraw, text: str, corner: tuple[int, int]) -> None:
    corner = (corner[0] + 2, corner[1] + 1)
    draw.rectangle(fonts.box(draw, corner, text), fill=_WHITE)
    fonts.write(draw, corner, text)


def _draw_legend(
    draw: ImageDraw.ImageDraw,
    names: Sequence[str],
    table: np.ndarray,
    has_ignored: bool,
    top: int,
) -> None:
    left = _GAP_PX
    entries = [(name, table[i]) for i, name in enumerate(names)]
    if has_ignored:
        entries.append(("ignored", table[IGNORE]))
    for name, colour in entries:
        box = (left, top + 2, left + 10, top + 12)
        draw.rectangle(box, tuple(map(int, colour)), outline="grey")
        fonts.write(draw, (left + 14, top + 1), name)
        left += 22 + int(fonts.width(draw, name))
