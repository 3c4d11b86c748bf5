"""Regions of a mask that are too small to be meant.

Everything is computed on runs, the stretches of one class in a row, of which a mask has few.
"""

from typing import NamedTuple

import numpy as np

_CLASSES = 256  # of a byte


class _Runs(NamedTuple):
    """The runs of a mask, in reading order.

    Attributes:
      starts: int64 [runs], the first pixel of each, numbered in reading order.
      ends: int64 [runs], the pixel behind each.
      classes: uint8 [runs].
    """

    starts: np.ndarray
    ends: np.ndarray
    classes: np.ndarray


def remove_small(class_ids: np.ndarray, min_area_px: int) -> np.ndarray:
    """Gives every region of few pixels the class of what surrounds it.

    A region is made of the pixels of one class that touch each other, at sides or corners. Of
    the regions that are large enough (and the largest one, whatever its size) every pixel keeps
    its class. A small one takes the class that meets most of its sides, counting only regions
    that are large enough; of equals the lower class. Small regions that only meet small ones
    follow, as soon as one of these has its class. The background is a class as any other, so
    small holes are filled.

    Args:
      class_ids: uint8 [height, width].
      min_area_px: regions of fewer pixels are small.

    Returns:
      uint8 [height, width], which has no small region, unless it is one.
    """
    if min_area_px <= 1:
        return class_ids
    height, width = class_ids.shape
    runs = _find_runs(class_ids)
    upper, lower = _pairs_below(runs, width, corners=True)
    is_same = runs.classes[upper] == runs.classes[lower]
    regions = _connected(len(runs.starts), upper[is_same], lower[is_same])
    lengths = runs.ends - runs.starts
    areas = np.bincount(regions, weights=lengths)
    is_kept = areas >= min_area_px
    is_kept[areas.argmax()] = True
    if is_kept.all():
        return class_ids
    classes = np.zeros(len(areas), np.int64)
    classes[regions] = runs.classes
    _take_class_around(classes, is_kept, *_borders(runs, regions, width))
    return np.repeat(classes[regions].astype(np.uint8), lengths).reshape(height, width)


def _find_runs(class_ids: np.ndarray) -> _Runs:
    flat = class_ids.ravel()
    is_start = np.ones(flat.size, bool)
    np.not_equal(flat[1:], flat[:-1], out=is_start[1:])
    is_start[:: class_ids.shape[1]] = True
    starts = np.flatnonzero(is_start)
    return _Runs(starts, np.append(starts[1:], flat.size), flat[starts])


def _pairs_below(runs: _Runs, width: int, corners: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of runs of which one is below the other: the indices of the upper and the lower ones.

    They share a side, or with `corners` at least a corner.
    """
    upper = np.flatnonzero(runs.starts < runs.ends[-1] - width)
    row = runs.starts[upper] // width * width
    left = np.maximum(runs.starts[upper] - corners, row) + width
    right = np.minimum(runs.ends[upper] - 1 + corners, row + width - 1) + width
    first = np.searchsorted(runs.starts, left, side="right") - 1
    counts = np.searchsorted(runs.starts, right, side="right") - first
    # The numbers 0, 1, ... anew for each upper run.
    steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(upper, counts), np.repeat(first, counts) + steps


def _connected(count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Numbers the connected parts of a graph, in the order of their first nodes.

    Args:
      count: number of nodes.
      left: int64 [edges], the node at one end of each edge.
      right: int64 [edges], that at the other.

    Returns:
      int64 [count], the part of each node.
    """
    roots = np.arange(count)
    while True:
        one, other = roots[left], roots[right]
        is_apart = one != other
        if not is_apart.any():
            return np.unique(roots, return_inverse=True)[1]
        left, right = left[is_apart], right[is_apart]
        one, other = one[is_apart], other[is_apart]
        # Every root points to the lowest of its neighbours, if that is lower: never in a circle.
        np.minimum.at(roots, np.maximum(one, other), np.minimum(one, other))
        while (higher := roots[roots] != roots).any():
            roots[higher] = roots[roots[higher]]


def _borders(
    runs: _Runs, regions: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sides at which different regions meet, each in both directions.

    Returns:
      int64 [borders]: a region, another one, and the number of sides of pixels between them;
      a pair of regions may have several borders.
    """
    upper, lower = _pairs_below(runs, width, corners=False)
    overlap = np.minimum(runs.ends[upper] + width, runs.ends[lower])
    overlap -= np.maximum(runs.starts[upper] + width, runs.starts[lower])
    right = np.flatnonzero(runs.starts % width)  # runs with one to their left in the same row
    one = regions[np.concatenate([upper, right - 1])]
    other = regions[np.concatenate([lower, right])]
    sides = np.concatenate([overlap, np.ones_like(right)])
    meets = one != other
    one, other, sides = one[meets], other[meets], sides[meets]
    return np.concatenate([one, other]), np.concatenate([other, one]), np.tile(sides, 2)


def _take_class_around(
    classes: np.ndarray,
    has_class: np.ndarray,
    region: np.ndarray,
    other: np.ndarray,
    sides: np.ndarray,
) -> None:
    """Gives a class to the regions that have none, from those that have one.

    Args:
      classes: int64 [regions]; changed.
      has_class: bool [regions], at least one of them True; changed.
      region, other, sides: from _borders.
    """
    while not has_class.all():
        without = ~has_class[region]  # what has its class needs no borders any more
        region, other, sides = region[without], other[without], sides[without]
        known = has_class[other]
        keys = region[known] * _CLASSES + classes[other[known]]
        found, index = np.unique(keys, return_inverse=True)
        meeting, of_class = np.divmod(found, _CLASSES)
        # By region; in it those with most sides first, then the lower class.
        order = np.lexsort((of_class, -np.bincount(index, weights=sides[known]), meeting))
        taking, first = np.unique(meeting[order], return_index=True)
        classes[taking] = of_class[order][first]
        has_class[taking] = True
