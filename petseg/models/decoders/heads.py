"""Heads on VGG16's pools: what they say is added from deep to shallow.

Sources: Long, Shelhamer and Darrell 2015 (FCN-8s); Lin et al. 2017 (lateral connections of a
pyramid); Wu and He 2018 (group normalisation).
"""

from collections.abc import Sequence

import keras

from petseg.models.layers.upsampling import upsample

_SCORE_STDDEV = 0.02
# ImageNet VGG16's pools differ in size by two orders of magnitude. Dividing each by
# its root mean square over natural images lets one learning rate fit them all.
_POOL_RMS = {1: 220.0, 2: 520.0, 3: 585.0, 4: 117.0, 5: 11.6}

_GROUPS = 8
_CONTEXT_CONVS = 2
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
    """Lateral 1x1 convolutions; transpose convolutions add them, deep to shallow.

    Two 3x3 convolutions look around in the deepest lateral and in each sum. Channels double
    from each pool to the next deeper one, so that these take as long at all of them. Laterals,
    sums and convolutions are followed by a normalisation and a ReLU: unlike build_skip_head
    it is not linear. Normalised are groups of channels of one image: an example then does not
    depend on its batch, on replicas or on microbatches.

    Args:
      blocks: the VGG16 blocks whose pools come in, from deep to shallow.
      shapes: [height, width, channels] of each pool.
      num_classes: number of logits a pixel.
      width: channels at the shallowest pool, a multiple of 8.
      seed: of the initial weights that are not bilinear interpolation.
    """
    pools = [keras.Input(shape, name=f"pool{b}") for b, shape in zip(blocks, shapes, strict=True)]
    total = None
    for block, pool in zip(blocks, pools, strict=True):
        scaled = keras.layers.Rescaling(1 / _POOL_RMS[block], name=f"scale{block}")(pool)
        channels = width * 2 ** (block - blocks[-1])
        # A normalisation takes a bias away, and what is left of its gradient is noise.
        lateral = _convolve(scaled, channels, f"lateral{block}", seed + block, use_bias=False)
        lateral = _normalise(lateral, f"lateral{block}")
        if total is None:
            total = lateral
        else:
            total = upsample(total, 2, channels, f"up_to_pool{block}", seed)
            total = keras.layers.Add(name=f"add{block}")([total, lateral])
            total = _normalise(total, f"sum{block}")
        total = _look_around(total, channels, f"context{block}", seed + 10 * block)
    reduced = _convolve(total, _REDUCED_CHANNELS, "reduce", seed)
    logits = upsample(reduced, 2 ** blocks[-1], num_classes, "up_to_image", seed, dtype="float32")
    return keras.Model(pools, logits, name="head")


def _look_around(x: keras.KerasTensor, channels: int, name: str, seed: int) -> keras.KerasTensor:
    for conv in range(1, _CONTEXT_CONVS + 1):
        x = _convolve(x, channels, f"{name}_{conv}", seed + conv, 3, use_bias=False)
        x = _normalise(x, f"{name}_{conv}")
    return x


def _convolve(
    x: keras.KerasTensor,
    channels: int,
    name: str,
    seed: int,
    side: int = 1,
    *,
    use_bias: bool = True,
) -> keras.KerasTensor:
    return keras.layers.Conv2D(
        channels,
        side,
        padding="same",
        use_bias=use_bias,
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
        name=name,
    )(x)


def _normalise(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    x = keras.layers.GroupNormalization(_GROUPS, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
