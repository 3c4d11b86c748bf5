"""The flags of post-processing, which evaluate and predict share."""

from collections.abc import Callable

from absl import flags

from petseg.inference.postprocessing import PostprocessingOptions


def define() -> Callable[[], PostprocessingOptions]:
    """Defines --smooth_sigma_px, --min_area_px and --keep_absent.

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

    keep_absent = flags.DEFINE_bool(
        "keep_absent",
        False,
        "Predict classes, too, that the model's presence head calls absent from the image.",
    )

    return lambda: PostprocessingOptions(sigma_px.value, min_area_px.value, keep_absent.value)
