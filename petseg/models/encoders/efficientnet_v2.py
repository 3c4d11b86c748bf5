"""EfficientNetV2-B0 and -B3 without their tops (Tan and Le 2021)."""

import copy
import re

import keras
from keras.src.applications import efficientnet_v2

from petseg.errors import UserError
from petseg.models.encoders.base import EncoderOptions, convs_of
from petseg.models.encoders.keras_application import DILATED_STRIDE, Application, changed
from petseg.models.encoders.preprocessing import STANDARDISED, to_standardised

_STEM, _DIVISOR = 32, 8
_BLOCKS = (1, 2, 2, 3, 5, 8)  # of B0; B3 has more of each
_ENDS = (1, 2, 3, 5, 6)  # the groups of blocks before each stride, and the last


def _application(variant: str, width_coefficient: float, depth_coefficient: float) -> Application:
    name = f"efficientnet_v2_{variant}"
    published = tuple(efficientnet_v2.round_repeats(count, depth_coefficient) for count in _BLOCKS)

    def build(options: EncoderOptions, x: keras.KerasTensor) -> keras.Model:
        if options.width % _DIVISOR:
            raise UserError(
                f"config.model.encoder_width={options.width} must be a multiple of {_DIVISOR} "
                f"for {name}"
            )
        repeats = convs_of(options, name, published, "each group of blocks")
        defaults = efficientnet_v2.DEFAULT_BLOCKS_ARGS[f"efficientnetv2-{variant}"]
        blocks = [
            {**group, "num_repeat": count}
            for group, count in zip(copy.deepcopy(defaults), repeats, strict=True)
        ]
        return efficientnet_v2.EfficientNetV2(
            options.width / _STEM or width_coefficient,
            1.0,
            default_size=224,
            drop_connect_rate=0.0,
            blocks_args=blocks,
            name=name,
            include_top=False,
            weights=None,
            input_tensor=x,
            include_preprocessing=False,
        )

    levels = {f"P{number}": (1.0, False) for number in range(1, 6)}
    title = f"EfficientNetV2{variant.upper()}"
    return Application(name, title, build, _ends, levels, to_standardised, STANDARDISED, _replace)


def _ends(model: keras.Model, _options: EncoderOptions) -> list[keras.KerasTensor]:
    """The output of the last layer of some groups of blocks."""
    last = {}
    for layer in model.layers:
        if found := re.match(r"block(\d)", layer.name):
            last[int(found[1])] = layer
    return [last[group].output for group in _ENDS]


def _replace(layer: keras.Layer, output_stride: int) -> keras.Layer | None:
    if output_stride == DILATED_STRIDE:
        if layer.name == "block6a_dwconv2":
            return changed(layer, strides=1)
        if re.fullmatch(r"block6[b-z]_dwconv2", layer.name):
            return changed(layer, dilation_rate=2)
    return None


# The scales of the levels were not measured: ImageNet's weights were not at hand.
B0 = _application("b0", 1.0, 1.0)
B3 = _application("b3", 1.2, 1.4)
EFFICIENTNET_V2_B0, EFFICIENTNET_V2_B3 = B0.spec(), B3.spec()
