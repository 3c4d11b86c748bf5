"""Masks of one class: grey values from a threshold on are the class."""

import numpy as np
from PIL import Image

from petseg.conversion.class_file import show_colour
from petseg.conversion.sources.base import MaskRules
from petseg.data import picture_file
from petseg.data.picture_file import BadFile

_LOSSY_SPREAD = 48  # so far apart are the channels of a grey picture after JPEG, at most


def grey_of(picture: Image.Image) -> np.ndarray:
    """Returns the grey values of a picture: of its only channel, or of three equal ones.

    Values of fewer than 8 bits are spread over 0-255, as viewers do; those of a palette are its
    colours. Channels of a lossy picture need be only nearly equal.

    Returns:
      uint8, or more bits if the picture has them, [height, width].

    Raises:
      BadFile: It has colours, transparent pixels, or values that are real numbers.
    """
    mode = picture.mode
    if mode.startswith("I"):
        return np.asarray(picture)
    if mode in ("1", "L"):
        return np.asarray(picture.convert("L"))
    if mode in ("P", "RGB", "RGBA", "LA", "PA"):
        return _equal_channels(picture)
    raise BadFile(f"mask is no picture of grey values ({picture.format}, {mode})")


def equal_channels(picture: Image.Image) -> np.ndarray | None:
    """Returns uint8 [height, width] if red, green and blue are the same everywhere, else None.

    Raises:
      BadFile: It has transparent pixels.
    """
    rgb = opaque_rgb(picture)
    is_grey = (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 0] == rgb[..., 2]).all()
    return np.ascontiguousarray(rgb[..., 0]) if is_grey else None


def opaque_rgb(picture: Image.Image) -> np.ndarray:
    """Returns uint8 [height, width, 3]; raises BadFile if pixels are transparent."""
    if "A" not in picture.mode and "transparency" not in picture.info:
        return np.asarray(picture.convert("RGB"))
    channels = np.asarray(picture.convert("RGBA"))
    if channels[..., 3].min() < 255:
        raise BadFile("mask has transparent pixels; their class cannot be told")
    return channels[..., :3]


def to_labels(grey: np.ndarray, rules: MaskRules) -> np.ndarray:
    """Reads the labels of grey values [height, width] by the threshold of the rules.

    Returns:
      uint8 [height, width]: the first value of `rules.names` below the threshold, the second
      from there on; a value to ignore stays.
    """
    background, foreground = [value for value in rules.names if value != rules.ignored]
    labels = np.where(grey >= rules.threshold, np.uint8(foreground), np.uint8(background))
    if rules.ignored is not None:
        labels[grey == rules.ignored] = rules.ignored
    return labels


def _equal_channels(picture: Image.Image) -> np.ndarray:
    is_lossy = picture_file.is_jpeg(picture) or picture.format == "WEBP"
    rgb = opaque_rgb(picture)
    apart = rgb.max(-1) - rgb.min(-1)
    if apart.max() > (_LOSSY_SPREAD if is_lossy else 0):
        row, column = np.unravel_index(apart.argmax(), apart.shape)
        raise BadFile(
            "mask has colours, --binary and --threshold read grey values; name the colours in "
            f"--classes: {show_colour(tuple(rgb[row, column].tolist()))} at row {row}, "
            f"column {column}"
        )
    return np.asarray(Image.fromarray(rgb).convert("L")) if is_lossy else rgb[..., 0]
