"""ConvNeXt-Tiny without its top (Liu et al. 2022).

Its first convolution has stride 4, so there is no level P1.
"""

import copy
import re

import keras
from keras.src.applications import convnext

from petseg.models.encoders.base import EncoderOptions, convs_of
from petseg.models.encoders.keras_application import DILATED_STRIDE, Application, changed
from petseg.models.encoders.preprocessing import STANDARDISED, to_standardised

_NAME = "convnext_tiny"
_WIDTH = 96
_DEPTHS = (3, 3, 9, 3)
_LAST = len(_DEPTHS) - 1


def _build(options: EncoderOptions, x: keras.KerasTensor) -> keras.Model:
    width = options.width or _WIDTH
    return convnext.ConvNeXt(
        convs_of(options, _NAME, _DEPTHS, "each stage"),
        [width * 2**index for index in range(len(_DEPTHS))],
        name=_NAME,
        include_preprocessing=False,
        include_top=False,
        input_tensor=x,
    )


def _ends(model: keras.Model, _options: EncoderOptions) -> list[keras.KerasTensor]:
    """What the downsampling blocks take, and the normalised output."""
    blocks = [f"{_NAME}_downsampling_block_{index}" for index in range(_LAST)]
    return [*(model.get_layer(name).input for name in blocks), model.output]


def _replace(layer: keras.Layer, output_stride: int) -> keras.Layer | None:
    is_dilated = output_stride == DILATED_STRIDE
    if found := re.fullmatch(rf"{_NAME}_stage_(\d)_block_\d+_depthwise_conv", layer.name):
        return _depthwise(layer, 2 if is_dilated and int(found[1]) == _LAST else 1)
    # Keras numbers these names by what was built before; checkpoints hold variables by name.
    if isinstance(layer, convnext.LayerScale):
        return _scale(layer)
    if re.fullmatch(r"layer_normalization(_\d+)?", layer.name):
        return changed(layer, name=f"{_NAME}_norm")
    if is_dilated and layer.name == f"{_NAME}_downsampling_block_{_LAST - 1}":
        layers = copy.deepcopy(layer.get_config()["layers"])
        layers[-1]["config"] |= {"strides": (1, 1), "padding": "same"}
        return changed(layer, layers=layers)
    return None


def _depthwise(layer: keras.layers.Conv2D, dilation: int) -> keras.layers.DepthwiseConv2D:
    """A convolution with a group for each channel, as a depthwise one.

    TensorFlow computes grouped convolutions on CPUs only within XLA, and not their gradients;
    no format of an exported model has them all.
    """
    return keras.layers.DepthwiseConv2D(
        layer.kernel_size,
        padding=layer.padding,
        dilation_rate=dilation,
        depthwise_initializer="zeros",
        dtype=layer.dtype_policy,
        name=layer.name,
    )


def _scale(layer: convnext.LayerScale) -> convnext.LayerScale:
    """The same with a variable called gamma."""
    scale = changed(layer)
    scale.gamma = scale.add_weight((scale.projection_dim,), initializer="zeros", name="gamma")
    scale.built = True
    return scale


# The scales were not measured: ImageNet's weights were not at hand. P5 is normalised.
_LEVELS = {f"P{number}": (1.0, False) for number in range(2, 6)}
APPLICATION = Application(
    _NAME, "ConvNeXtTiny", _build, _ends, _LEVELS, to_standardised, STANDARDISED, _replace
)
CONVNEXT_TINY = APPLICATION.spec()
