"""Which windows of a picture are looked at: positions at several scales."""

import dataclasses
import math

import numpy as np

SCALES = 5
SCALE_STEP = math.sqrt(2)


@dataclasses.dataclass(frozen=True)
class PyramidOptions:
    """The scales, and how far apart windows are.

    Attributes:
      window_px: Side of the model's input.
      object_share: Longer side of an object over a window's, as the model was trained.
      stride_share: Most that neighbouring windows are apart, over a window's side.
      scales: Number of scales. At the first an object as long as the picture's longer side fits
        object_share; each further one is for objects shorter by SCALE_STEP.
    """

    window_px: int
    object_share: float
    stride_share: float
    scales: int = SCALES


@dataclasses.dataclass(frozen=True)
class PyramidLevel:
    """The windows of a picture at one scale.

    Attributes:
      sides: Height and width of the resized picture, in pixels.
      tops: int64 [rows], first row of each row of windows in the resized picture; windows stick
        out of it.
      lefts: int64 [columns], first column likewise.
    """

    sides: tuple[int, int]
    tops: np.ndarray
    lefts: np.ndarray

    @property
    def corners(self) -> np.ndarray:
        """Top and left of every window, int64 [windows, 2], row by row."""
        return np.stack(np.meshgrid(self.tops, self.lefts, indexing="ij"), -1).reshape(-1, 2)


def plan_levels(height: int, width: int, options: PyramidOptions) -> list[PyramidLevel]:
    """The windows of a picture, from the largest objects to the smallest.

    At each scale every point of the picture is within half a stride of a window's centre.

    Args:
      height: Of the picture, in pixels.
      width: In pixels.
      options: See PyramidOptions.
    """
    levels = []
    for index in range(options.scales):
        # An object's longer side: in the picture, and in a window.
        object_px = max(height, width) / SCALE_STEP**index
        scale = options.object_share * options.window_px / object_px
        sides = max(round(height * scale), 1), max(round(width * scale), 1)
        starts = [_starts(side, options) for side in sides]
        levels.append(PyramidLevel(sides, *starts))
    return levels


def _starts(side_px: int, options: PyramidOptions) -> np.ndarray:
    """First pixels of windows whose centres are spread evenly over a side."""
    count = math.ceil(side_px / max(options.stride_share * options.window_px, 1))
    centres = (np.arange(count) + 0.5) * side_px / count
    return np.round(centres - options.window_px / 2).astype(np.int64)
