"""VGG16 and VGG19 without their tops (Simonyan and Zisserman 2015).

petseg builds them itself, so that tests and the quickstart can have narrow ones; a test
compares them with those of keras.applications, layer by layer and output by output.
"""

import dataclasses
import functools

import keras

from petseg.image_size import sides_of
from petseg.models.encoders.base import (
    IMAGE_CHANNELS,
    Encoder,
    EncoderOptions,
    EncoderSpec,
    Level,
    convs_of,
)
from petseg.models.encoders.preprocessing import CAFFE, to_caffe
from petseg.models.encoders.weights import load_weights

_BLOCKS = 5
# The convolutions of a block, and the pool behind them.
STAGES = tuple(name for n in range(1, _BLOCKS + 1) for name in (f"block{n}", f"pool{n}"))
_WIDTH = 64
_WIDTH_FACTORS = (1, 2, 4, 8, 8)


@dataclasses.dataclass(frozen=True)
class Variant:
    """One of the two networks.

    Attributes:
      name: Its name in the registry.
      title: Its name in keras.applications.
      convs: Convolutions of each block.
    """

    name: str
    title: str
    convs: tuple[int, ...]


VARIANTS = {
    "vgg16": Variant("vgg16", "VGG16", (2, 2, 3, 3, 3)),
    "vgg19": Variant("vgg19", "VGG19", (2, 2, 4, 4, 4)),
}
# Under ImageNet's weights the blocks' outputs differ by two orders of magnitude. VGG19's weights
# were not at hand; both are trained on the same pixels, so VGG16's scales are nearer than 1.
_SCALES = (220.0, 520.0, 585.0, 117.0, 11.6)


def build_vgg(variant: Variant, options: EncoderOptions) -> Encoder:
    """A VGG's blocks and pools as stages; levels C1 to C5 and P1 to P5 are their outputs.

    Raises:
      UserError: The weights cannot be downloaded, read or fitted, or an option does not fit.
    """
    model = build_keras_model(variant, options)
    stages, pools, levels = {}, {}, {}
    inputs = options.image()
    x = to_caffe(inputs)
    for number, scale in enumerate(_SCALES, 1):
        *convolutions, pool = (
            layer for layer in model.layers if layer.name.startswith(f"block{number}_")
        )
        for name, layers in ((f"block{number}", convolutions), (f"pool{number}", [pool])):
            for layer in layers:
                x = layer(x)
            stages[name] = keras.Model(inputs, x, name=name)
            inputs = x = keras.Input(x.shape[1:], dtype=x.dtype)
        stride, channels = 2**number, x.shape[-1]
        levels[f"C{number}"] = Level(f"block{number}", stride // 2, channels, scale, True)
        stride = min(stride, options.output_stride)
        pools[f"P{number}"] = Level(f"pool{number}", stride, channels, scale, True)
    return Encoder(variant.name, levels | pools, stages, to_caffe, CAFFE)


def build_keras_model(variant: Variant, options: EncoderOptions) -> keras.Model:
    """A VGG as one Keras model: float32 BGR [batch, height, width, 3] -> the last pool's output.

    Raises:
      UserError: The weights cannot be downloaded, read or fitted, or an option does not fit.
    """
    width = options.width or _WIDTH
    convs = convs_of(options, variant.name, variant.convs, "each block")
    inputs = x = keras.Input((*sides_of(options.image_size), IMAGE_CHANNELS), name="bgr")
    for block, (factor, count) in enumerate(zip(_WIDTH_FACTORS, convs, strict=True), 1):
        for conv in range(1, count + 1):
            seed = options.seed + 10 * block + conv
            x = keras.layers.Conv2D(
                factor * width,
                3,
                padding="same",
                activation="relu",
                kernel_initializer=keras.initializers.HeNormal(seed=seed),
                name=f"block{block}_conv{conv}",
            )(x)
        stride = 2 if 2**block <= options.output_stride else 1
        x = keras.layers.MaxPooling2D(2, stride, "same", name=f"block{block}_pool")(x)
    model = keras.Model(inputs, x, name=variant.name)
    load_weights(model, options.weights, variant.title)
    return model


VGG16, VGG19 = (
    EncoderSpec(STAGES, functools.partial(build_vgg, variant)) for variant in VARIANTS.values()
)
