"""The narrowest and shallowest that each encoder can be."""

import numpy as np

from petseg.models.encoders.base import Encoder, EncoderOptions
from petseg.registry import ENCODERS

# encoder_width and encoder_convs. Two blocks in the last stage, so that one of them is dilated.
TINY = {
    "vgg16": (2, (1, 1, 1, 1, 1)),
    "vgg19": (2, (1, 1, 1, 1, 1)),
    "resnet50": (2, (1, 1, 1, 2)),
    "mobilenet_v2": (8, ()),
    "efficientnet_v2_b0": (8, (1, 1, 1, 1, 1, 2)),
    "efficientnet_v2_b3": (8, (2, 1, 1, 1, 1, 2)),
    "convnext_tiny": (2, (1, 1, 1, 2)),
    "plain": (4, (1, 1, 1, 1, 1)),
}
# Those that are cut from a network of keras.applications.
APPLICATIONS = tuple(name for name in TINY if name not in ("vgg16", "vgg19", "plain"))


def build_tiny(name: str, image_size: int = 64, **changes: object) -> Encoder:
    """A tiny encoder with random weights."""
    width, convs = TINY[name]
    options = EncoderOptions(image_size, width=width, convs=convs, **changes)
    return ENCODERS.get(name).build(options)


def draw_weights(encoder: Encoder, seed: int = 0) -> None:
    """Gives every variable, statistics and biases too, values that leave a trace in the output."""
    rng = np.random.default_rng(seed)
    for variable in encoder.variables:
        noise = rng.normal(0, 0.2, variable.shape)
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(1 + np.abs(noise))
        elif variable.name in ("beta", "bias", "moving_mean"):
            variable.assign(noise)


def images(count: int, size: int) -> np.ndarray:
    """Noise, uint8 [count, size, size, 3]."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
