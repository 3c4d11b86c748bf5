"""What encoders' weights expect of images: the ways of the frameworks they were trained in."""

import keras
import numpy as np

_MEAN_BGR = (103.939, 116.779, 123.68)
_MEAN_RGB, _STDDEV_RGB = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The same in words; feature caches are keyed by them.
CAFFE = f"BGR minus {_MEAN_BGR}"
SYMMETRIC = "RGB from -1 to 1"
STANDARDISED = f"RGB from 0 to 1, minus {_MEAN_RGB}, divided by {_STDDEV_RGB}"


def to_caffe(images: keras.KerasTensor) -> keras.KerasTensor:
    """RGB uint8 -> float32 BGR minus ImageNet's mean."""
    # LiteRT's int8 scales are right for a slice, and wrong for a flip.
    bgr = keras.ops.cast(images, "float32")[..., ::-1]
    return bgr - np.array(_MEAN_BGR, np.float32)


def to_symmetric(images: keras.KerasTensor) -> keras.KerasTensor:
    """RGB uint8 -> float32 from -1 to 1."""
    return keras.ops.cast(images, "float32") / 127.5 - 1.0


def to_standardised(images: keras.KerasTensor) -> keras.KerasTensor:
    """RGB uint8 -> float32, with ImageNet's mean at 0 and its standard deviation 1."""
    scaled = keras.ops.cast(images, "float32") / 255.0
    return (scaled - np.array(_MEAN_RGB, np.float32)) / np.array(_STDDEV_RGB, np.float32)
