"""The flags of test-time augmentation, which evaluate and predict share."""

from collections.abc import Callable

from absl import flags

from petseg.errors import UserError
from petseg.inference.tta import TtaOptions


def define() -> Callable[[], TtaOptions]:
    """Defines --flip, --scales and --sliding_windows.

    Returns:
      A function that reads them once they are parsed; it raises UserError if a scale is not a
      number from 0.1 to 10.
    """
    flip = flags.DEFINE_bool("flip", False, "Also predict the mirror image, and average.")
    scales = flags.DEFINE_list(
        "scales", ["1"], "Multiples of the model's size at which to predict, averaged."
    )
    windows = flags.DEFINE_bool(
        "sliding_windows",
        False,
        "Predict images larger than the model's size in windows of that size.",
    )

    def read() -> TtaOptions:
        if not scales.value:
            raise UserError("--scales is empty; 1 is the model's size")
        return TtaOptions(flip.value, tuple(map(_parse_scale, scales.value)), windows.value)

    return read


def _parse_scale(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 10:
        raise UserError(f"--scales: '{text}' must be a number between 0.1 and 10")
    return value
