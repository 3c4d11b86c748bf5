"""Heads on VGG16's pools: what they say is added from deep to shallow.

Sources: Long, Shelhamer and Darrell 2015 (FCN-8s); Lin et al. 2017 (lateral connections of a
pyramid); Wu and He 2018 (group normalisation).
"""

from collections.abc import Sequence

import keras
import numpy as np

_SCORE_STDDEV = 0.02
_EXTRA_CHANNEL_STDDEV = 0.01
# ImageNet VGG16's pools differ in size by two orders of magnitude. Dividing each by
# its root mean square over natural images lets one learning rate fit them all.
_POOL_RMS = {1: 220.0, 2: 520.0, 3: 585.0, 4: 117.0, 5: 11.6}

_GROUPS = 8
_REDUCED_CHANNELS = 16  # a last transpose convolution from more takes as long as all the rest


def build_skip_head(
    blocks: Sequence[int],
    shapes: Sequence[tuple[int, int, int]],
    num_classes: int,
    score_channels: int,
    seed: int = 0,
) -> keras.Model:
    """A 1x1 score on each pool; transpose convolutions add them, deep to shallow.

    FCN-8s scores a pool with one channel a class. More channels let the last transpose
    convolution draw edges inside a pool's pixel; the head stays linear.

    Args:
      blocks: the VGG16 blocks whose pools come in, from deep to shallow.
      shapes: [height, width, channels] of each pool.
      num_classes: number of logits a pixel.
      score_channels: channels of each score map.
      seed: of the initial weights that are not bilinear interpolation.
    """
    pools = [keras.Input(shape, name=f"pool{b}") for b, shape in zip(blocks, shapes, strict=True)]
    total = None
    for block, pool in zip(blocks, pools, strict=True):
        scaled = keras.layers.Rescaling(1 / _POOL_RMS[block], name=f"scale{block}")(pool)
        score = keras.layers.Conv2D(
            score_channels,
            1,
            kernel_initializer=keras.initializers.RandomNormal(
                stddev=_SCORE_STDDEV, seed=seed + block
            ),
            name=f"score{block}",
        )(scaled)
        if total is None:
            total = score
        else:
            total = upsample(total, 2, score_channels, f"up_to_pool{block}", seed)
            total = keras.layers.Add(name=f"add{block}")([total, score])
    # From the shallowest pool back to the image's size.
    # In float32 whatever the precision, as a softmax follows.
    logits = upsample(total, 2 ** blocks[-1], num_classes, "up_to_image", seed, dtype="float32")
    return keras.Model(pools, logits, name="head")


def build_wide_head(
    blocks: Sequence[int],
    shapes: Sequence[tuple[int, int, int]],
    num_classes: int,
    width: int,
    seed: int = 0,
) -> keras.Model:
    """Lateral 1x1 convolutions of equal width; transpose convolutions add them, deep to shallow.

    Each is followed by a normalisation and a ReLU, and so is each sum, so that unlike
    build_skip_head it is not linear. Normalised are groups of channels of one image: an
    example then does not depend on its batch, on replicas or on microbatches.

    Args:
      blocks: the VGG16 blocks whose pools come in, from deep to shallow.
      shapes: [height, width, channels] of each pool.
      num_classes: number of logits a pixel.
      width: channels, a multiple of 8.
      seed: of the initial weights that are not bilinear interpolation.
    """
    pools = [keras.Input(shape, name=f"pool{b}") for b, shape in zip(blocks, shapes, strict=True)]
    total = None
    for block, pool in zip(blocks, pools, strict=True):
        scaled = keras.layers.Rescaling(1 / _POOL_RMS[block], name=f"scale{block}")(pool)
        # A normalisation takes a bias away, and what is left of its gradient is noise.
        lateral = _convolve(scaled, width, f"lateral{block}", seed + block, use_bias=False)
        lateral = _normalise(lateral, f"lateral{block}")
        if total is None:
            total = lateral
        else:
            total = upsample(total, 2, width, f"up_to_pool{block}", seed)
            total = keras.layers.Add(name=f"add{block}")([total, lateral])
            total = _normalise(total, f"sum{block}")
    reduced = _convolve(total, _REDUCED_CHANNELS, "reduce", seed)
    logits = upsample(reduced, 2 ** blocks[-1], num_classes, "up_to_image", seed, dtype="float32")
    return keras.Model(pools, logits, name="head")


def _convolve(
    x: keras.KerasTensor, channels: int, name: str, seed: int, use_bias: bool = True
) -> keras.KerasTensor:
    return keras.layers.Conv2D(
        channels,
        1,
        use_bias=use_bias,
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
        name=name,
    )(x)


def _normalise(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    x = keras.layers.GroupNormalization(_GROUPS, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def upsample(
    x: keras.KerasTensor,
    stride: int,
    channels: int,
    name: str,
    seed: int,
    dtype: str | None = None,
) -> keras.KerasTensor:
    """A transpose convolution of twice the stride that starts as bilinear interpolation."""
    kernel = bilinear_kernel(stride, channels, x.shape[-1], seed)
    return keras.layers.Conv2DTranspose(
        channels,
        2 * stride,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=keras.initializers.Constant(kernel),
        dtype=dtype,
        name=name,
    )(x)


def bilinear_kernel(stride: int, channels_out: int, channels_in: int, seed: int = 0) -> np.ndarray:
    """The kernel of a transpose convolution: each channel interpolates its own.

    Channels that come in beyond those that go out start with small random weights:
    zeros would never receive a gradient of their own.

    Returns:
      float32 [2 stride, 2 stride, channels_out, channels_in].
    """
    shape = (2 * stride, 2 * stride, channels_out, channels_in)
    kernel = np.random.default_rng(seed).normal(0, _EXTRA_CHANNEL_STDDEV, shape)
    kernel[..., :channels_out] = 0
    place = np.arange(2 * stride)
    line = 1 - np.abs(place + 0.5 - stride) / stride
    for channel in range(min(channels_out, channels_in)):
        kernel[:, :, channel, channel] = np.outer(line, line)
    return kernel.astype(np.float32)
