"""Draws annotated shapes as masks; every source of annotations draws here, by one rule.

A pixel belongs to a shape if its centre lies within: a rectangle from 10 to 20 covers the ten
pixels 10-19. Polygons are drawn by pycocotools, so that they cover what COCO's own tools say.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from pycocotools import mask as coco_mask

from petseg.conversion import rle
from petseg.conversion.rle import BadShape

LINE_WIDTH_PX = 10  # of lines, and of the discs that stand for points: as LabelMe exports them
MIN_POINTS = {"polygon": 3, "rectangle": 2, "circle": 2, "ellipse": 2, "line": 2, "point": 1}
_FARTHEST_PX = 1_000_000  # from the corner; farther, pycocotools' integers could overflow
_LONGEST_PX = 4_000_000  # round a polygon: pycocotools needs some hundred bytes for each pixel
_SHOWN = 60


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """One annotated shape.

    Attributes:
      label: The name of its class.
      kind: 'mask', 'rle', or a key of MIN_POINTS.
      parts: float64 [n, 2] each, x and y in pixels from the upper left corner of the image. A
        polygon is the union of its parts; all others have one. A rectangle has two opposite
        corners; a circle its centre and a point of its edge; an ellipse its centre, its two
        radii and, if it is turned, (angle in radians, 0); a mask its upper left corner. Run
        lengths have none, since they cover all of the image.
      place: Where it is in its file, for messages: 'annotation 17'.
      pixels: bool [height, width], of a mask.
      counts: Run lengths, as rle.decode takes them; decoded only while they are drawn.
    """

    label: str
    kind: str
    parts: tuple[np.ndarray, ...]
    place: str
    pixels: np.ndarray | None = None
    counts: str | Sequence[int] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Patch:
    """The pixels of a shape: bool [height, width], and where they begin in the image."""

    top: int
    left: int
    pixels: np.ndarray


def to_points(numbers: object) -> np.ndarray:
    """Returns numbers x, y, x, y... or pairs of them as float64 [n, 2]; raises BadShape."""
    try:
        points = np.array(numbers)
    except ValueError as error:
        raise BadShape("points are no pairs of numbers") from error
    if points.size and points.dtype.kind not in "iuf":
        raise BadShape(f"points are no numbers: {str(numbers)[:_SHOWN]}")
    if points.ndim not in (1, 2) or points.size % 2 or (points.ndim == 2 and points.shape[1] != 2):
        raise BadShape("points are no pairs of numbers")
    points = points.astype(np.float64).reshape(-1, 2)
    if not np.isfinite(points).all():
        raise BadShape("a coordinate is no finite number")
    if points.size and np.abs(points).max() > _FARTHEST_PX:
        raise BadShape(f"a coordinate lies more than {_FARTHEST_PX:,} px away")
    return points


def why_empty(shape: Shape, height: int, width: int) -> str | None:
    """Returns why a shape can have no pixel in an image of that size, or None."""
    if shape.kind not in MIN_POINTS:
        return None
    count, least = max((len(part) for part in shape.parts), default=0), MIN_POINTS[shape.kind]
    if count < least:
        return f"{shape.kind} of fewer than {least} points: {count}"
    left, top, right, bottom = _box(shape)
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        return "lies wholly outside the image"
    return None


def draw(
    shapes: Iterable[Shape],
    values: Mapping[str, int],
    background: int,
    size: tuple[int, int],
    smaller_on_top: bool,
) -> np.ndarray:
    """Draws shapes, each over those before it; one at a time is in memory as pixels.

    Args:
      shapes: The shapes, all of whose labels are in `values`.
      values: Label -> raw value.
      background: The raw value where no shape is.
      size: Height and width, in pixels.
      smaller_on_top: Those with fewer pixels lie on those with more; equal ones, and otherwise
        all, in their own order.

    Returns:
      uint8 [height, width], raw values.

    Raises:
      BadShape: One cannot be drawn; the message names it.
    """
    labels = np.full(size, background, np.uint8)
    # The number of pixels of the shape on top, of each pixel; the largest where there is none.
    on_top = np.full(size, np.iinfo(np.uint32).max, np.uint32) if smaller_on_top else None
    for shape in shapes:
        try:
            patch = cover(shape, *size)
        except BadShape as error:
            raise error.at(shape.place) from error
        if patch is None:
            continue
        pixels, (rows, columns) = patch.pixels, patch.pixels.shape
        where = np.s_[patch.top : patch.top + rows, patch.left : patch.left + columns]
        if on_top is not None:
            count = np.count_nonzero(pixels)
            pixels = pixels & (on_top[where] >= count)
            on_top[where][pixels] = count
        labels[where][pixels] = values[shape.label]
    return labels


def cover(shape: Shape, height: int, width: int) -> Patch | None:
    """Returns the pixels of a shape within an image, or None if it has none; raises BadShape."""
    if shape.kind == "mask":
        return _place_mask(shape, height, width)
    if shape.kind == "rle":
        pixels = rle.decode(shape.counts, (height, width))
        return Patch(0, 0, pixels) if pixels.any() else None
    if shape.kind not in MIN_POINTS:
        raise BadShape(f"no kind of shape that petseg knows: '{shape.kind[:_SHOWN]}'")
    if why_empty(shape, height, width):
        return None
    left, top, right, bottom = _box(shape)
    # One pixel more on each side, within the image.
    x0, y0 = max(math.floor(left) - 1, 0), max(math.floor(top) - 1, 0)
    x1, y1 = min(math.ceil(right) + 1, width), min(math.ceil(bottom) + 1, height)
    parts = [part - (x0, y0) for part in shape.parts]
    if shape.kind == "polygon":
        pixels = _polygon(parts, y1 - y0, x1 - x0)
    else:
        x = np.arange(x1 - x0) + 0.5
        y = np.arange(y1 - y0)[:, None] + 0.5
        pixels = _COVERS[shape.kind](parts[0], shape.parts[0], x, y)
    return Patch(y0, x0, pixels) if pixels.any() else None


def _box(shape: Shape) -> tuple[float, float, float, float]:
    """Returns the left, top, right and bottom end of a shape."""
    points = np.concatenate(shape.parts)
    grow = 0.0
    if shape.kind == "circle":
        grow, points = math.dist(*points[:2]), points[:1]
    elif shape.kind == "ellipse":
        grow, points = float(np.abs(points[1]).max()), points[:1]
    elif shape.kind in ("line", "point"):
        grow = LINE_WIDTH_PX / 2
    (left, top), (right, bottom) = points.min(0) - grow, points.max(0) + grow
    return float(left), float(top), float(right), float(bottom)


def _polygon(parts: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    parts = [part for part in parts if len(part) >= MIN_POINTS["polygon"]]
    for part in parts:
        if np.abs(np.diff(part, axis=0, append=part[:1])).max(1).sum() > _LONGEST_PX:
            raise BadShape(f"polygon is more than {_LONGEST_PX:,} px long")
    encoded = coco_mask.frPyObjects([part.ravel().tolist() for part in parts], height, width)
    merged = coco_mask.merge(encoded)["counts"].decode()
    # pycocotools' own decoder relies on what NumPy is about to drop.
    return rle.decode(merged, (height, width))


def _rectangle(points: np.ndarray, _: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return (left <= x) & (x < right) & (top <= y) & (y < bottom)


def _circle(points: np.ndarray, _: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.hypot(x - points[0, 0], y - points[0, 1]) <= math.dist(*points[:2])


def _ellipse(points: np.ndarray, given: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    (across, down), angle = np.abs(given[1]), float(given[2, 0]) if len(given) > 2 else 0.0
    if not across or not down:
        return np.zeros(np.broadcast_shapes(x.shape, y.shape), bool)
    dx, dy = x - points[0, 0], y - points[0, 1]
    along = dx * math.cos(angle) + dy * math.sin(angle)
    beside = dy * math.cos(angle) - dx * math.sin(angle)
    return (along / across) ** 2 + (beside / down) ** 2 <= 1


def _line(points: np.ndarray, _: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns what lies within half of LINE_WIDTH_PX of a line through all points."""
    near = np.zeros(np.broadcast_shapes(x.shape, y.shape), bool)
    ends = points[1:] if len(points) > 1 else points
    for (x0, y0), (x1, y1) in zip(points, ends, strict=False):
        length = (x1 - x0) ** 2 + (y1 - y0) ** 2
        share = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length if length else 0 * x
        share = np.clip(share, 0, 1)
        distance = np.hypot(x - x0 - share * (x1 - x0), y - y0 - share * (y1 - y0))
        near |= distance <= LINE_WIDTH_PX / 2
    return near


# Kind -> function of the points within the patch, the points as given, and the pixels' x and y.
_COVERS = {
    **{"rectangle": _rectangle, "circle": _circle, "ellipse": _ellipse},
    **{"line": _line, "point": _line},
}


def _place_mask(shape: Shape, height: int, width: int) -> Patch | None:
    left, top = (round(float(number)) for number in shape.parts[0][0])
    rows, columns = shape.pixels.shape
    if left < 0 or top < 0 or left + columns > width or top + rows > height:
        raise BadShape(f"mask leaves its image: {columns}x{rows} px at ({left}, {top})")
    return Patch(top, left, shape.pixels) if shape.pixels.any() else None
