"""A plain convolutional encoder, to be trained from scratch.

The contracting path of U-Net (Ronneberger, Fischer and Brox 2015), with group normalisation
(Wu and He 2018), and one pool more.
"""

import math

import keras

from petseg.models.encoders.base import Encoder, EncoderOptions, EncoderSpec, Level, convs_of
from petseg.models.encoders.keras_application import cut_stages
from petseg.models.encoders.preprocessing import SYMMETRIC, to_symmetric
from petseg.models.encoders.weights import load_weights

_NAME = "plain"
_WIDTH = 64
_CONVS = (2, 2, 2, 2, 2)
_MOST_GROUPS = 8


def build_plain(options: EncoderOptions) -> Encoder:
    """Blocks of 3x3 convolutions, each with a norm and a ReLU, and pools behind them.

    `options.width` is the channels of the first block, doubled by each next one; `options.convs`
    the convolutions of each block.

    Raises:
      UserError: There are no such weights, they cannot be read or do not fit, or an option does
        not fit.
    """
    counts = convs_of(options, _NAME, _CONVS, "each block")
    inputs = options.image()
    x, ends, pools, levels = to_symmetric(inputs), {}, {}, {}
    for number, count in enumerate(counts, 1):
        block, pool, channels = f"block{number}", f"pool{number}", x.shape[-1] * 2
        if number == 1:
            channels = options.width or _WIDTH
        for conv in range(1, count + 1):
            x = _convolve(x, channels, f"{block}_conv{conv}", options.seed + 1000 * number + conv)
        ends[block], stride = x, 2**number
        levels[f"C{number}"] = Level(block, stride // 2, channels, non_negative=True)
        step = 2 if stride <= options.output_stride else 1
        ends[pool] = x = keras.layers.MaxPooling2D(2, step, "same", name=f"{block}_pool")(x)
        stride = min(stride, options.output_stride)
        pools[f"P{number}"] = Level(pool, stride, channels, non_negative=True)
    model = keras.Model(inputs, x, name=_NAME)
    load_weights(model, options.weights, "")
    stages = cut_stages(model, ends)
    return Encoder(_NAME, levels | pools, stages, to_symmetric, SYMMETRIC)


_STAGES = tuple(name for n in range(1, len(_CONVS) + 1) for name in (f"block{n}", f"pool{n}"))
PLAIN = EncoderSpec(_STAGES, build_plain)


def _convolve(x: keras.KerasTensor, channels: int, name: str, seed: int) -> keras.KerasTensor:
    # The normalisation cancels a bias.
    x = keras.layers.Conv2D(
        channels,
        3,
        padding="same",
        use_bias=False,
        kernel_initializer=keras.initializers.HeNormal(seed=seed),
        name=name,
    )(x)
    groups = math.gcd(channels, _MOST_GROUPS)
    x = keras.layers.GroupNormalization(groups, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
