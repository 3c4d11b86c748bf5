"""Post-processing: what is done to a prediction, or not."""

import dataclasses

from petseg.errors import UserError

_MAX_SIGMA_PX = 100


@dataclasses.dataclass(frozen=True)
class PostprocessingOptions:
    """By default nothing is done; UserError if a value is out of its range.

    Attributes:
      smooth_sigma_px: probabilities are smoothed with a Gaussian of this standard deviation, in
        pixels of the image; 0 to 100. See smoothing.smooth.
      min_area_px: regions of fewer pixels of the image take the class around them, after that.
        See small_regions.remove_small.
      keep_absent: classes are predicted, too, that the model's presence head calls absent.
    """

    smooth_sigma_px: float = 0.0
    min_area_px: int = 0
    keep_absent: bool = False

    def __post_init__(self):
        """Checks the values."""
        if not 0 <= self.smooth_sigma_px <= _MAX_SIGMA_PX:  # nan neither
            raise UserError(
                f"smooth_sigma_px={self.smooth_sigma_px} must be from 0 to {_MAX_SIGMA_PX} pixels"
            )
        if self.min_area_px < 0:
            raise UserError(f"min_area_px={self.min_area_px} must be 0 or more pixels")
