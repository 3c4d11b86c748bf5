"""Post-processing: what is done to a prediction at its image's own size."""

import dataclasses

MAX_SIGMA_PX = 100.0


@dataclasses.dataclass(frozen=True)
class PostprocessingOptions:
    """By default nothing is done.

    Attributes:
      smooth_sigma_px: probabilities are smoothed with a Gaussian of this standard deviation, in
        pixels of the image; 0 to MAX_SIGMA_PX. See smoothing.smooth.
      min_area_px: regions of fewer pixels of the image take the class around them, after that.
        See small_regions.remove_small.
    """

    smooth_sigma_px: float = 0.0
    min_area_px: int = 0
