"""The flags of post-processing, which evaluate and predict share."""

from collections.abc import Callable

from absl import flags

from petseg.errors import UserError
from petseg.inference.postprocessing import MAX_SIGMA_PX, PostprocessingOptions


def define() -> Callable[[], PostprocessingOptions]:
    """Defines --smooth_sigma_px and --min_area_px.

    Returns:
      A function that reads them once they are parsed; it raises UserError if one is out of its
      range.
    """
    sigma_px = flags.DEFINE_float(
        "smooth_sigma_px",
        0.0,
        "Smooth the probabilities with a Gaussian of this many pixels of the image.",
    )
    min_area_px = flags.DEFINE_integer(
        "min_area_px",
        0,
        "Regions of a class of fewer pixels of the image become the class around them.",
    )

    def read() -> PostprocessingOptions:
        if not 0 <= sigma_px.value <= MAX_SIGMA_PX:  # nan neither
            raise UserError(
                f"--smooth_sigma_px={sigma_px.value} must be from 0 to {MAX_SIGMA_PX:g}"
            )
        if min_area_px.value < 0:
            raise UserError(f"--min_area_px={min_area_px.value} must be 0 or more pixels")
        return PostprocessingOptions(sigma_px.value, min_area_px.value)

    return read
