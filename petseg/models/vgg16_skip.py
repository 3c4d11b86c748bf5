"""VGG16 without its top, with a head on some of its pools.

Source: Simonyan and Zisserman 2015.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from petseg.errors import UserError
from petseg.models.decoders import heads

VGG16_WIDTH = 64
VGG16_CONVS = (2, 2, 3, 3, 3)
STRIDE_PX = 2 ** len(VGG16_CONVS)  # each block halves an image
# The blocks whose pools each head reads, from deep to shallow.
TAPPED_BLOCKS = {
    "fcn32s": (5,),
    "fcn16s": (5, 4),
    "fcn8s": (5, 4, 3),
    "five_tap": (5, 4, 3, 2, 1),
    "wide": (5, 4, 3, 2),
}

_IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)
PREPROCESSING = f"BGR minus {_IMAGENET_MEAN_BGR}"


@dataclasses.dataclass(frozen=True)
class SkipModel:
    """A backbone and a head, apart, so that a frozen backbone stays out of the tape.

    Attributes:
      backbone: uint8 images [batch, size, size, 3], RGB -> the tapped pools, from
        deep to shallow, float32 [batch, size/2^block, size/2^block, channels].
      head: those pools -> logits, float32 [batch, size, size, classes].
      blocks: the backbone's own, one by one: what the block before gives -> its pool. The
        first takes images.
      tapped: numbers of the blocks whose pools the head reads, from deep to shallow.
    """

    backbone: keras.Model
    head: keras.Model
    blocks: tuple[keras.Model, ...]
    tapped: tuple[int, ...]

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """uint8 [batch, size, size, 3] -> logits float32 [batch, size, size, classes]."""
        return self.head(self.backbone(images, training=False), training=False)

    def pools(self, known: Mapping[int, tf.Tensor], wanted: Sequence[int] = ()) -> list[tf.Tensor]:
        """Pools of some blocks; computes those that are not known.

        Args:
          known: by block; 0 is the images. A block that is not there follows the one before.
          wanted: blocks; by default the tapped ones, from deep to shallow.
        """
        wanted, found = wanted or self.tapped, dict(known)
        for block in range(1, max(wanted) + 1):
            if block not in found and block - 1 in found:
                found[block] = self.blocks[block - 1](found[block - 1])
        return [found[block] for block in wanted]

    def logits(self, known: Mapping[int, tf.Tensor]) -> tf.Tensor:
        """The same as a call, of what is known: images under 0, or pools; see `pools`."""
        return self.head(self.pools(known), training=False)

    @property
    def variables(self) -> list[keras.Variable]:
        """Every variable of backbone and head."""
        return [*self.backbone.variables, *self.head.variables]

    def joined(self) -> keras.Model:
        """One Keras model, from images to logits."""
        images = self.backbone.inputs[0]
        return keras.Model(images, self.head(self.backbone(images)), name="vgg16_skip")


def build_model(
    *,
    head: str,
    num_classes: int,
    image_size: int,
    backbone_weights: str,
    score_channels: int = 0,
    head_width: int = 32,
    backbone_width: int = VGG16_WIDTH,
    backbone_convs: Sequence[int] = VGG16_CONVS,
    precision: str = "float32",
    seed: int = 0,
) -> SkipModel:
    """Builds backbone and head.

    Args:
      head: of TAPPED_BLOCKS.
      num_classes: number of logits a pixel.
      image_size: pixels, a multiple of 32.
      backbone_weights: 'imagenet', 'none' or a path; see build_vgg16.
      score_channels: channels of each score map; 0 is one a class. Not for 'wide'.
      head_width: channels of 'wide'; see heads.build_wide_head.
      backbone_width: filters of the first block.
      backbone_convs: convolutions of each block.
      precision: 'float32', 'mixed_bfloat16' or 'mixed_float16'; weights and logits are
        float32 in any case.
      seed: of every initial weight that is not read from a file.

    Raises:
      UserError: the backbone's weights cannot be had or do not fit.
    """
    with _dtype_policy(precision):
        vgg16 = build_vgg16(image_size, backbone_weights, backbone_width, backbone_convs, seed)
        images = keras.Input((image_size, image_size, 3), dtype="uint8", name="image")
        blocks = TAPPED_BLOCKS[head]
        taps = keras.Model(vgg16.inputs, [vgg16.get_layer(f"block{b}_pool").output for b in blocks])
        backbone = keras.Model(images, taps(preprocess(images)), name="backbone")
        shapes = [output.shape[1:] for output in backbone.outputs]
        if head == "wide":
            head_model = heads.build_wide_head(blocks, shapes, num_classes, head_width, seed)
        else:
            scores = score_channels or num_classes
            head_model = heads.build_skip_head(blocks, shapes, num_classes, scores, seed)
        return SkipModel(
            backbone,
            head_model,
            _blocks(vgg16, images),
            blocks,
        )


def _blocks(vgg16: keras.Model, images: keras.KerasTensor) -> tuple[keras.Model, ...]:
    """VGG16's blocks as models of their own, with the same layers."""
    found, given = [], images
    for block in range(1, len(VGG16_CONVS) + 1):
        x = preprocess(given) if block == 1 else given
        for layer in vgg16.layers:
            if layer.name.startswith(f"block{block}_"):
                x = layer(x)
        found.append(keras.Model(given, x, name=f"block{block}"))
        given = keras.Input(x.shape[1:], dtype=x.dtype, name=f"pool{block}")
    return tuple(found)


@contextlib.contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    """Layers that are made meanwhile compute so."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def preprocess(images: tf.Tensor) -> tf.Tensor:
    """RGB uint8 -> float32 BGR minus ImageNet's mean, as VGG16 was trained."""
    # LiteRT's int8 scales are right for a slice, and wrong for a flip.
    bgr = keras.ops.cast(images, "float32")[..., ::-1]
    return bgr - np.array(_IMAGENET_MEAN_BGR, np.float32)


def build_vgg16(
    image_size: int,
    weights: str,
    width: int = VGG16_WIDTH,
    convs: Sequence[int] = VGG16_CONVS,
    seed: int = 0,
) -> keras.Model:
    """VGG16 without its top: float32 BGR [batch, size, size, 3] -> its last pool.

    Args:
      image_size: pixels, a multiple of 32.
      weights: 'imagenet' (Keras downloads them), 'none' (random), or the path of a
        Keras weights file.
      width: filters of the first block; the others have 2, 4, 8 and 8 times as many.
      convs: convolutions of each of the five blocks.
      seed: of random weights.

    Raises:
      UserError: the weights cannot be downloaded, read or fitted.
    """
    inputs = x = keras.Input((image_size, image_size, 3), name="bgr")
    for block, (factor, count) in enumerate(zip((1, 2, 4, 8, 8), convs, strict=True), 1):
        for conv in range(1, count + 1):
            x = keras.layers.Conv2D(
                factor * width,
                3,
                padding="same",
                activation="relu",
                kernel_initializer=keras.initializers.HeNormal(seed=seed + 10 * block + conv),
                name=f"block{block}_conv{conv}",
            )(x)
        x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    model = keras.Model(inputs, x, name="vgg16")
    if weights == "imagenet":
        _load_imagenet(model)
    elif weights != "none":
        _load_file(model, weights)
    return model


def draw_channel_factors(
    channels: Sequence[int],
    examples: int,
    rate: float,
    seed: tf.Tensor,
    share: tf.Tensor,
    num_shares: int,
) -> list[tf.Tensor]:
    """Spatial dropout: what to multiply each pool's channels with, each example its own.

    The draws are made for the global batch and cut to one share of it, so that any number
    of replicas drops the same channels of the same examples. Call it outside of XLA, which
    draws other numbers from the same seed.

    Args:
      channels: of each pool.
      examples: of this share.
      rate: share of channels dropped, at least 0 and below 1.
      seed: int64 [2], new at every step.
      share: int32 [], which share of the global batch this is.
      num_shares: how many there are, all of the same size.

    Returns:
      For each pool float32 [examples, 1, 1, channels]: 0, or 1 / (1 - rate).
    """
    factors = []
    for index, count in enumerate(channels):
        draws = tf.random.stateless_uniform(
            [examples * num_shares, count], tf.random.fold_in(seed, index)
        )
        keep = draws[share * examples : (share + 1) * examples] >= rate
        factors.append((tf.cast(keep, tf.float32) / (1 - rate))[:, None, None, :])
    return factors


def _load_imagenet(model: keras.Model) -> None:
    try:
        stock = keras.applications.VGG16(include_top=False, weights="imagenet")
    except Exception as error:  # Keras raises whatever its downloader met
        raise UserError(
            "config.model.backbone_weights=imagenet: the download failed "
            f"({' '.join(str(error).split())}); fetch the VGG16 'notop' weights file on a "
            "connected machine and pass its path as --config.model.backbone_weights=PATH"
        ) from error
    try:
        model.set_weights(stock.get_weights())
    except ValueError as error:
        raise UserError(
            "config.model.backbone_weights=imagenet fits only backbone_width=64 and "
            "backbone_convs=(2, 2, 3, 3, 3)"
        ) from error


def _load_file(model: keras.Model, path: str) -> None:
    where = f"config.model.backbone_weights={path}"
    if not os.path.isfile(path):
        raise UserError(f"{where}: no such file")
    try:
        model.load_weights(path)
    except (ValueError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{where} does not fit VGG16 of width {model.layers[1].filters}: {reason}"
        ) from error
