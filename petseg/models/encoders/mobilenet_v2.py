"""MobileNetV2 without its top (Sandler et al. 2018)."""

import re

import keras

from petseg.errors import UserError
from petseg.models.encoders.base import EncoderOptions
from petseg.models.encoders.keras_application import DILATED_STRIDE, Application, changed
from petseg.models.encoders.preprocessing import SYMMETRIC, to_symmetric

_NAME = "mobilenet_v2"
_WIDTH, _DIVISOR = 32, 8
# Where TensorFlow's segmentation tutorial takes its skips: before each stride, where channels
# are most.
_ENDS = (
    "block_1_expand_relu",
    "block_3_expand_relu",
    "block_6_expand_relu",
    "block_13_expand_relu",
    "block_16_project",
)


def _build(options: EncoderOptions, x: keras.KerasTensor) -> keras.Model:
    if options.width % _DIVISOR:
        raise UserError(
            f"config.model.encoder_width={options.width} must be a multiple of {_DIVISOR} for "
            f"{_NAME}"
        )
    if options.convs:
        raise UserError(f"config.model.encoder_convs={options.convs}: {_NAME} has a fixed depth")
    alpha = (options.width or _WIDTH) / _WIDTH
    return keras.applications.MobileNetV2(
        alpha=alpha, include_top=False, weights=None, input_tensor=x, name=_NAME
    )


def _ends(model: keras.Model, _options: EncoderOptions) -> list[keras.KerasTensor]:
    return [model.get_layer(name).output for name in _ENDS]


def _replace(layer: keras.Layer, output_stride: int) -> keras.Layer | None:
    if output_stride == DILATED_STRIDE:
        if layer.name == "block_13_pad":
            # One row and column more behind, as the next kernel no longer jumps over any.
            padding = [(before, 2 - before) for before, _ in layer.padding]
            return changed(layer, padding=padding)
        if layer.name == "block_13_depthwise":
            return changed(layer, strides=1)
        if re.fullmatch(r"block_1[456]_depthwise", layer.name):
            return changed(layer, dilation_rate=2)
    return None


# Root mean squares over 64 pets at 128 px, taken evenly from the names in order, under
# ImageNet's weights that were touched up on 19 breeds of dogs at a tiny rate. P5 is a
# convolution's output, before its norm.
_LEVELS = {
    "P1": (2.1, True),
    "P2": (1.5, True),
    "P3": (1.2, True),
    "P4": (0.73, True),
    "P5": (1.2, False),
}
APPLICATION = Application(
    _NAME, "MobileNetV2", _build, _ends, _LEVELS, to_symmetric, SYMMETRIC, _replace
)
MOBILENET_V2 = APPLICATION.spec()
