"""VGG16 without its top (Simonyan and Zisserman 2015).

petseg builds it itself, so that tests and the quickstart can have narrow ones; a test
compares it with keras.applications.VGG16, layer by layer and output by output.
"""

import os

import keras
import numpy as np
import tensorflow as tf

from petseg.errors import UserError
from petseg.image_size import sides_of
from petseg.models.encoders.base import (
    IMAGE_CHANNELS,
    Encoder,
    EncoderOptions,
    EncoderSpec,
    Level,
)

_BLOCKS = 5
# The convolutions of a block, and the pool behind them.
STAGES = tuple(name for n in range(1, _BLOCKS + 1) for name in (f"block{n}", f"pool{n}"))
_WIDTH = 64
_CONVS = (2, 2, 3, 3, 3)
_WIDTH_FACTORS = (1, 2, 4, 8, 8)
# Under ImageNet's weights the blocks' outputs differ by two orders of magnitude.
_SCALES = (220.0, 520.0, 585.0, 117.0, 11.6)
_IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)


def build_vgg16(options: EncoderOptions) -> Encoder:
    """VGG16's blocks and pools as stages; levels C1 to C5 and P1 to P5 are their outputs.

    Raises:
      UserError: The weights cannot be downloaded, read or fitted.
    """
    vgg16 = build_keras_model(options)
    stages, pools, levels = {}, {}, {}
    inputs = options.image()
    x = preprocess(inputs)
    for number, scale in enumerate(_SCALES, 1):
        *convolutions, pool = (
            layer for layer in vgg16.layers if layer.name.startswith(f"block{number}_")
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
    levels |= pools
    preprocessing = f"BGR minus {_IMAGENET_MEAN_BGR}"
    return Encoder("vgg16", levels, stages, preprocess, preprocessing)


VGG16 = EncoderSpec(STAGES, build_vgg16)


def preprocess(images: tf.Tensor) -> tf.Tensor:
    """RGB uint8 -> float32 BGR minus ImageNet's mean, as VGG16 was trained."""
    # LiteRT's int8 scales are right for a slice, and wrong for a flip.
    bgr = keras.ops.cast(images, "float32")[..., ::-1]
    return bgr - np.array(_IMAGENET_MEAN_BGR, np.float32)


def build_keras_model(options: EncoderOptions) -> keras.Model:
    """VGG16 as one Keras model: float32 BGR [batch, size, size, 3] -> the last pool's output.

    Raises:
      UserError: The weights cannot be downloaded, read or fitted.
    """
    width, convs = options.width or _WIDTH, options.convs or _CONVS
    if len(convs) != _BLOCKS:
        raise UserError(
            f"config.model.encoder_convs={convs} must hold {_BLOCKS} numbers for vgg16, one "
            "for each block"
        )
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
    model = keras.Model(inputs, x, name="vgg16")
    if options.weights == "imagenet":
        _load_imagenet(model)
    elif options.weights != "none":
        _load_file(model, options.weights)
    return model


def _load_imagenet(model: keras.Model) -> None:
    try:
        published = keras.applications.VGG16(include_top=False, weights="imagenet")
    except Exception as error:  # Keras raises whatever its downloader met
        raise UserError(
            "config.model.encoder_weights=imagenet: the download failed "
            f"({' '.join(str(error).split())}); fetch the VGG16 'notop' weights file on a "
            "connected machine and pass its path as --config.model.encoder_weights=PATH"
        ) from error
    try:
        model.set_weights(published.get_weights())
    except ValueError as error:
        raise UserError(
            "config.model.encoder_weights=imagenet fits only the published VGG16: leave out "
            "config.model.encoder_width and config.model.encoder_convs"
        ) from error


def _load_file(model: keras.Model, path: str) -> None:
    where = f"config.model.encoder_weights={path}"
    if not os.path.isfile(path):
        raise UserError(f"{where}: no such file")
    try:
        model.load_weights(path)
    except (ValueError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{where} does not fit VGG16 of width {model.layers[1].filters}: {reason}"
        ) from error
