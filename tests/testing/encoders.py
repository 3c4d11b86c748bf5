"""The narrowest and shallowest that each encoder can be."""

import re

import keras
import numpy as np
from keras.src.applications import convnext, efficientnet_v2, resnet
from keras.src.utils.naming import reset_uids

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
# One of each kind beside VGG16.
OTHER_ENCODERS = ("resnet50", "mobilenet_v2", "efficientnet_v2_b0", "convnext_tiny", "plain")


def build_tiny(name: str, image_size: int = 64, **changes: object) -> Encoder:
    """A tiny encoder with random weights."""
    width, convs = TINY[name]
    options = EncoderOptions(image_size, width=width, convs=convs, **changes)
    reset_uids()  # as for every model, whose variables checkpoints hold by name
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


def key_of(variable: keras.Variable) -> tuple[str, str]:
    """Its layer and its own name; those that Keras makes up and numbers are petseg's."""
    *_, layer, name = variable.path.split("/")
    if re.fullmatch(r"layer_normalization(_\d+)?", layer):
        layer = "convnext_tiny_norm"
    return layer, re.sub(r"^variable(_\d+)?$", "gamma", name)


def outputs_of(encoder: Encoder, x: np.ndarray) -> dict[str, np.ndarray]:
    """The output of every stage, by stage."""
    outputs = {}
    for name, stage in encoder.stages.items():
        outputs[name] = x = stage(x, training=False)
    return {name: output.numpy() for name, output in outputs.items()}


def keras_network(name: str, **options) -> keras.Model:
    """A tiny network as keras.applications makes it, dropout included."""
    width, counts = TINY[name]
    options = {"include_top": False, "weights": None, "input_shape": (64, 64, 3), **options}
    if name == "mobilenet_v2":
        return keras.applications.MobileNetV2(alpha=width / 32, **options)
    if name == "resnet50":

        def stacks(x):
            for index, count in enumerate(counts):
                stride = 1 if index == 0 else 2
                x = resnet.stack_residual_blocks_v1(
                    x, width * 2**index, count, stride, name=f"conv{index + 2}"
                )
            return x

        return resnet.ResNet(stacks, preact=False, use_bias=True, name=name, **options)
    if name == "convnext_tiny":
        widths = [width * 2**index for index in range(4)]
        return convnext.ConvNeXt(counts, widths, drop_path_rate=0.2, name=name, **options)
    blocks = [
        {**group, "num_repeat": count}
        for group, count in zip(
            efficientnet_v2.DEFAULT_BLOCKS_ARGS["efficientnetv2-b0"], counts, strict=True
        )
    ]
    return efficientnet_v2.EfficientNetV2(
        width / 32, 1.0, 224, blocks_args=blocks, name="efficientnetv2-b0", **options
    )
