"""ResNet-50 without its top (He et al. 2016)."""

import re

import keras
from keras.src.applications import resnet

from petseg.models.encoders.base import EncoderOptions, convs_of
from petseg.models.encoders.keras_application import DILATED_STRIDE, Application, changed
from petseg.models.encoders.preprocessing import CAFFE, to_caffe

_NAME = "resnet50"
_WIDTH = 64
_BLOCKS = (3, 4, 6, 3)


def _build(options: EncoderOptions, x: keras.KerasTensor) -> keras.Model:
    width = options.width or _WIDTH

    def stacks(x: keras.KerasTensor) -> keras.KerasTensor:
        for index, count in enumerate(_blocks(options)):
            stride = 2 if index else 1
            x = resnet.stack_residual_blocks_v1(
                x, width * 2**index, count, stride, name=f"conv{index + 2}"
            )
        return x

    return resnet.ResNet(
        stacks,
        preact=False,
        use_bias=True,
        include_top=False,
        weights=None,
        input_tensor=x,
        name=_NAME,
    )


def _ends(model: keras.Model, options: EncoderOptions) -> list[keras.KerasTensor]:
    """The first activation, and the end of each stack of residual blocks."""
    blocks = enumerate(_blocks(options), 2)
    names = ["conv1_relu", *(f"conv{stack}_block{count}_out" for stack, count in blocks)]
    return [model.get_layer(name).output for name in names]


def _blocks(options: EncoderOptions) -> tuple[int, ...]:
    return convs_of(options, _NAME, _BLOCKS, "each stack of residual blocks")


def _replace(layer: keras.Layer, output_stride: int) -> keras.Layer | None:
    if output_stride == DILATED_STRIDE:
        if layer.name in ("conv5_block1_0_conv", "conv5_block1_1_conv"):
            return changed(layer, strides=1)
        if re.fullmatch(r"conv5_block\d+_2_conv", layer.name):
            return changed(layer, dilation_rate=2)
    return None


# Every level is the output of a ReLU. Its scales were not measured: ImageNet's weights were not
# at hand.
_LEVELS = {f"P{number}": (1.0, True) for number in range(1, 6)}
APPLICATION = Application(_NAME, "ResNet50", _build, _ends, _LEVELS, to_caffe, CAFFE, _replace)
RESNET50 = APPLICATION.spec()
