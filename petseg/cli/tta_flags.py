"""The flags by which evaluate and predict say how images are looked at."""

from collections.abc import Callable

from absl import flags

from petseg.errors import UserError
from petseg.inference.forward import Views


def define() -> Callable[[], Views]:
    """Defines --flip, --scales and --sliding_windows.

    Returns:
      A function that reads them once they are parsed; it raises UserError if a scale is no
      number between 0.1 and 10.
    """
    flip = flags.DEFINE_bool("flip", False, "Look at the mirror image too, and average.")
    scales = flags.DEFINE_list(
        "scales", ["1"], "Multiples of the model's size to look at images at, averaged."
    )
    windows = flags.DEFINE_bool(
        "sliding_windows",
        False,
        "Look at images larger than the model's size through windows of that size.",
    )

    def read() -> Views:
        if not scales.value:
            raise UserError("--scales names no number; 1 is the model's size")
        return Views(flip.value, tuple(map(_scale, scales.value)), windows.value)

    return read


def _scale(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 10:
        raise UserError(f"--scales: '{text}' must be a number between 0.1 and 10")
    return value
