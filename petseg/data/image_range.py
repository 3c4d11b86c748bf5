"""The range of pixel values that becomes 0-255, for pictures of 16 bits or of real numbers."""

import dataclasses
import math
import re

import numpy as np

from petseg.errors import UserError

_NUMBER = r"\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)(%?)\s*"
_RANGE = re.compile(f"{_NUMBER},{_NUMBER}")
_HISTOGRAM = 1 << 16  # values of which percentiles are counted, not sorted


@dataclasses.dataclass(frozen=True)
class ImageRange:
    """The values that become black and white; those between are scaled, those outside clipped.

    Attributes:
      low: What becomes 0.
      high: What becomes 255.
      is_percent: Both are percentiles, 0-100, of each picture's own values.
    """

    low: float
    high: float
    is_percent: bool = False

    def spec(self) -> str:
        """Returns the range as text that `parse_image_range` reads."""
        ends = (str(end).removesuffix(".0") for end in (self.low, self.high))
        return ",".join(end + "%" * self.is_percent for end in ends)

    def limits(self, values: np.ndarray) -> tuple[float, float]:
        """Returns which values of a picture become 0 and 255.

        Args:
          values: All values of the picture, numbers [height, width]. Percentiles are those of
            the values that are finite.
        """
        if not self.is_percent:
            return self.low, self.high
        if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
            return _counted_percentiles(values, (self.low, self.high))
        finite = values[np.isfinite(values)]
        if not finite.size:
            return 0.0, 0.0
        low, high = np.percentile(finite, (self.low, self.high), method="inverted_cdf")
        return float(low), float(high)


def parse_image_range(text: str) -> ImageRange | None:
    """Parses '0,4095' or '1%,99%'; None if the text is empty. Raises UserError."""
    if not text:
        return None
    match = _RANGE.fullmatch(text)
    try:
        low, high = (float(match[1]), float(match[3])) if match else (math.nan, math.nan)
    except ValueError:
        low, high = math.nan, math.nan
    if not (math.isfinite(low) and math.isfinite(high)) or match[2] != match[4]:
        raise UserError(f"--image_range={text} must be two numbers, 0,4095, or percentiles, 1%,99%")
    if not low < high or (match[2] and not 0 <= low < high <= 100):
        what = "percentiles from 0 to 100, the first" if match[2] else "the first number"
        raise UserError(f"--image_range={text} needs {what} below the second")
    return ImageRange(low, high, bool(match[2]))


def to_grey(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scales numbers so that low becomes 0 and high 255, rounded, and clips the others.

    What is not a number becomes 0.

    Args:
      values: Numbers, of any shape.
      low: Becomes 0.
      high: Becomes 255; if it is not above low, what is above low is 255.

    Returns:
      uint8 of the same shape.
    """
    if not low < high:
        return np.where(values > low, np.uint8(255), np.uint8(0))
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = (values.astype(np.float64) - low) * (255 / (high - low))
        return np.rint(np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255)).astype(np.uint8)


def _counted_percentiles(values: np.ndarray, percents: tuple[float, float]) -> tuple[float, float]:
    """Returns the percentiles (the smallest value that so many do not exceed) of uint8 or 16."""
    counts = np.cumsum(np.bincount(values.ravel(), minlength=_HISTOGRAM))
    low, high = (
        float(np.searchsorted(counts, max(percent / 100 * values.size, 1))) for percent in percents
    )
    return low, high
