"""Draws images with their masks for people: colours, overlays and panels."""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from petseg.data.label_map import IGNORE, MAX_CLASSES, LabelMap
from petseg.visualization import fonts

Colour = tuple[int, int, int]
Caption = tuple[str, str]  # on the image, on the errors

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
_ALL_NAMED = 12  # classes
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


def caption(name: str, mean_iou: float | None) -> Caption:
    """What is written on an example: its name, and the mean IoU of its image if it has one."""
    has_figure = mean_iou is not None and not math.isnan(mean_iou)
    return name, f"mean IoU {mean_iou:.3f}" if has_figure else "all ignored"


def panel(
    images: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    predicted: Sequence[np.ndarray],
    names: Sequence[str],
    table: np.ndarray,
    captions: Sequence[Caption] = (),
    cell_px: int | None = None,
) -> np.ndarray:
    """Draws image | truth | prediction | errors of each example, with titles and a legend.

    Four examples or more are drawn in two columns, because screens are wider than high. Of more
    than twelve classes the legend names those that are seen.

    Args:
      images: uint8 [height, width, 3] each.
      truth: uint8 [height, width] each, class ids or IGNORE.
      predicted: uint8 [height, width] each, class ids.
      names: Names of the classes.
      table: Colours, from `palette`.
      captions: Of each example what is written on its image, and on its errors; empty for none.
      cell_px: Side of the square that each picture is fitted into, in pixels; None if all
        have one size, in which they are drawn.

    Returns:
      uint8 [height, width, 3].
    """
    count = len(images)
    examples = [_cells(*example, table) for example in zip(images, truth, predicted, strict=True)]
    if cell_px:
        examples = [[_fit(cell, cell_px) for cell in cells] for cells in examples]
    height = max(cells[0].height for cells in examples)
    width = max(cells[0].width for cells in examples)
    columns = 2 if count >= _SIDE_BY_SIDE_FROM else 1
    rows = -(-count // columns)
    down, across = height + _GAP_PX, width + _GAP_PX
    group_px = len(COLUMNS) * across + _GAP_PX
    key = legend(_entries(truth, predicted, names, table), columns * group_px)
    key_top = _TITLE_PX + rows * down
    canvas = Image.new("RGB", (columns * group_px + _GAP_PX, key_top + key.height), "white")
    for example, cells in enumerate(examples):
        group, row = divmod(example, rows)
        left, top = _GAP_PX + group * group_px, _TITLE_PX + row * down
        corners = [(left + index * across, top) for index in range(len(COLUMNS))]
        written = captions[example] if captions else ("", "")
        _paste(canvas, cells, corners, written, width, has_titles=row == 0)
    canvas.paste(key, (0, key_top))
    return np.asarray(canvas)


def squares(
    images: np.ndarray,
    truth: np.ndarray,
    predicted: np.ndarray,
    names: Sequence[str],
    table: np.ndarray,
    captions: Sequence[Caption] = (),
) -> np.ndarray:
    """Draws each example as a picture of its own, two cells wide and two high.

    TensorBoard shrinks a picture to a third of its page: in a strip of four cells nobody could
    read a word. All have the same legend.

    Args:
      images: uint8 [examples, height, width, 3].
      truth: uint8 [examples, height, width], class ids or IGNORE.
      predicted: uint8 [examples, height, width], class ids.
      names: As for `panel`.
      table: As for `panel`.
      captions: As for `panel`.

    Returns:
      uint8 [examples, height, width, 3].
    """
    height, width = images.shape[1:3]
    down, across = height + _TITLE_PX, width + _GAP_PX
    corners = [(_GAP_PX + x * across, _TITLE_PX + y * down) for y in (0, 1) for x in (0, 1)]
    key = legend(_entries(truth, predicted, names, table), 2 * across + _GAP_PX)
    drawn = []
    for example in range(len(images)):
        cells = _cells(images[example], truth[example], predicted[example], table)
        written = captions[example] if captions else ("", "")
        canvas = Image.new("RGB", (key.width, 2 * down + _GAP_PX + key.height), "white")
        _paste(canvas, cells, corners, written, width, has_titles=True)
        canvas.paste(key, (0, 2 * down + _GAP_PX))
        drawn.append(np.asarray(canvas))
    return np.stack(drawn)


def _cells(
    image: np.ndarray, truth: np.ndarray, predicted: np.ndarray, table: np.ndarray
) -> list[Image.Image]:
    drawn = (image, table[truth], table[predicted], errors(image, truth, predicted))
    return [Image.fromarray(one) for one in drawn]


def _fit(picture: Image.Image, side: int) -> Image.Image:
    """Scales a picture to a longer side without mixing its colours."""
    if max(picture.size) == side:
        return picture
    factor = side / max(picture.size)
    sides = [max(round(length * factor), 1) for length in picture.size]
    return picture.resize(sides, Image.Resampling.NEAREST)


def _paste(
    canvas: Image.Image,
    cells: Sequence[Image.Image],
    corners: Sequence[tuple[int, int]],
    written: Caption,
    width: int,
    *,
    has_titles: bool,
) -> None:
    """Puts the four cells of an example in their places, with its caption and their titles."""
    draw = ImageDraw.Draw(canvas)
    for title, cell, (left, top) in zip(COLUMNS, cells, corners, strict=True):
        canvas.paste(cell, (left, top))
        if has_titles:
            draw.text((left, top - _TITLE_PX + 2), title, fill="black")
    for text, (left, top) in zip(written, (corners[0], corners[-1]), strict=True):
        if text:
            _write_on(draw, text, (left + 2, top + 1), width - 4)


def _write_on(draw: ImageDraw.ImageDraw, text: str, corner: tuple[int, int], width: int) -> None:
    text = fonts.shortened(draw, text, width, is_end_kept=True)  # names differ at their ends
    draw.rectangle(fonts.box(draw, corner, text), fill=_WHITE)
    fonts.write(draw, corner, text)


def _entries(
    truth: Sequence[np.ndarray],
    predicted: Sequence[np.ndarray],
    names: Sequence[str],
    table: np.ndarray,
) -> list[tuple[str, Colour]]:
    """What the legend names, with its colour."""
    seen = set().union(*(np.unique(one).tolist() for one in itertools.chain(truth, predicted)))
    has_all = len(names) <= _ALL_NAMED
    entries = [(name, table[i]) for i, name in enumerate(names) if has_all or i in seen]
    if IGNORE in seen:
        entries.append(("ignored", table[IGNORE]))
    entries.append(("wrong", _WRONG))
    return [(name, tuple(map(int, colour))) for name, colour in entries]


def legend(entries: Sequence[tuple[str, Colour]], width: int) -> Image.Image:
    """Draws names beside their colours, `width` pixels wide, in as many lines as they need."""
    canvas = Image.new("RGB", (width, _TITLE_PX * max(len(entries), 1)), "white")
    draw = ImageDraw.Draw(canvas)
    left, top = _GAP_PX, 0
    for name, colour in entries:
        text = fonts.shortened(draw, name, width - _GAP_PX - 22)
        needed = 22 + int(fonts.width(draw, text))
        if left > _GAP_PX and left + needed > width:
            left, top = _GAP_PX, top + _TITLE_PX
        draw.rectangle((left, top + 2, left + 10, top + 12), colour, outline="grey")
        fonts.write(draw, (left + 14, top + 1), text)
        left += needed
    return canvas.crop((0, 0, width, top + _TITLE_PX))
