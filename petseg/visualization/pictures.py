"""Pictures that people look at: overlays and panels of images with their masks."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from petseg.data.label_map import IGNORE, LabelMap

Colour = tuple[int, int, int]

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
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_DARK = 60  # the sum of a colour's channels
_WRONG = (230, 30, 30)
_OVERLAY_OPACITY = 0.45
_GAP_PX, _TITLE_PX = 4, 16
_TWO_ABREAST_FROM = 4  # examples
COLUMNS = ("image", "truth", "prediction", "errors")


def colours(num_classes: int, own: Mapping[int, Colour]) -> np.ndarray:
    """A table of colours, RGB: uint8 [256, 3], class ids and IGNORE.

    Args:
      num_classes: how many.
      own: class id -> the colour that its data set gives it; the others get one of ours.
    """
    table = np.zeros((256, 3), np.uint8)
    for class_id in range(num_classes):
        # Past the palette's end the same colours come again, each time darker.
        shade = 0.6 ** (class_id // len(_PALETTE))
        ours = np.round(np.multiply(_PALETTE[class_id % len(_PALETTE)], shade))
        table[class_id] = own.get(class_id, ours)
    is_dark = table[:num_classes].sum(1, dtype=int) < _DARK
    table[IGNORE] = _WHITE if is_dark.any() else _BLACK
    return table


def palette(label_map: LabelMap, raw_colours: Mapping[int, Colour]) -> np.ndarray:
    """The table of `colours` for a label map.

    Args:
      label_map: the classes; each takes the colour of its first raw value that has one.
      raw_colours: raw value -> colour, as the data set has them; may be empty.
    """
    own = {
        class_id: next(raw_colours[value] for value in values if value in raw_colours)
        for class_id, values in enumerate(label_map.raw_values)
        if not raw_colours.keys().isdisjoint(values)
    }
    return colours(label_map.num_classes, own)


def overlay(image: np.ndarray, class_ids: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Blends an image with its classes' colours.

    Args:
      image: uint8 [height, width, 3].
      class_ids: uint8 [height, width].
      table: from `palette`.

    Returns:
      uint8 [height, width, 3].
    """
    return blend(image, table[class_ids])


def blend(image: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Lays colours over an image; all uint8 [height, width, 3]."""
    mixed = (1 - _OVERLAY_OPACITY) * image + _OVERLAY_OPACITY * colour
    return np.round(mixed).astype(np.uint8)


def errors(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The image in pale grey with every wrong pixel in red; ignored pixels are black.

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
    """Image | truth | prediction | errors of each example, under titles, above a legend.

    From four examples on, two stand side by side: a screen is wider than high.

    Args:
      images: uint8 [height, width, 3] each.
      truth: uint8 [height, width] each, class ids or IGNORE.
      predicted: uint8 [height, width] each, class ids.
      names: of the classes.
      table: from `palette`.
      captions: a line for each example, written on its image; or none.
      cell_px: side of the square that each is fitted into; None if all are squares of one
        size.

    Returns:
      uint8 [height, width, 3].
    """
    count, size = len(images), cell_px or images[0].shape[0]
    side_by_side = 2 if count >= _TWO_ABREAST_FROM else 1
    rows = -(-count // side_by_side)
    step, group_px = size + _GAP_PX, len(COLUMNS) * (size + _GAP_PX) + _GAP_PX
    canvas = Image.new(
        "RGB", (side_by_side * group_px + _GAP_PX, rows * step + 2 * _TITLE_PX), "white"
    )
    draw = ImageDraw.Draw(canvas)
    for example in range(count):
        group, row = divmod(example, rows)
        cells = (
            images[example],
            table[truth[example]],
            table[predicted[example]],
            errors(images[example], truth[example], predicted[example]),
        )
        left, top = _GAP_PX + group * group_px, _TITLE_PX + row * step
        for title, cell in zip(COLUMNS, cells, strict=True):
            canvas.paste(_fit(Image.fromarray(cell), size), (left, top))
            if row == 0:
                draw.text((left, 2), title, fill="black")
            left += step
        if captions:
            _write_on(draw, captions[example], (_GAP_PX + group * group_px, top))
    has_ignored = any((of == IGNORE).any() for of in truth)
    _draw_legend(draw, names, table, has_ignored, _TITLE_PX + rows * step)
    return np.asarray(canvas)


def _fit(picture: Image.Image, side: int) -> Image.Image:
    """A picture whose longer side is `side`; colours stay what they are."""
    if max(picture.size) == side:
        return picture
    factor = side / max(picture.size)
    sides = [max(round(length * factor), 1) for length in picture.size]
    return picture.resize(sides, Image.Resampling.NEAREST)


def _write_on(draw: ImageDraw.ImageDraw, text: str, corner: tuple[int, int]) -> None:
    draw.rectangle(draw.textbbox((corner[0] + 2, corner[1] + 1), text), fill=_WHITE)
    draw.text((corner[0] + 2, corner[1] + 1), text, fill="black")


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
        draw.text((left + 14, top + 1), name, fill="black")
        left += 22 + int(draw.textlength(name))
