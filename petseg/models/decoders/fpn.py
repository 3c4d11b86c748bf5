"""A feature pyramid with group normalisation.

Sources: Lin et al. 2017 (feature pyramid networks); Wu and He 2018 (group normalisation).
"""

from collections.abc import Mapping

import keras

from petseg.errors import UserError
from petseg.models.decoders.base import Decoder, DecoderOptions
from petseg.models.encoders.base import Level
from petseg.models.layers.upsampling import upsample

_GROUPS = 8
_CONVS_PER_LEVEL = 2
_REDUCED_CHANNELS = 16  # a last transpose convolution from more takes as long as all the rest


def build_fpn(
    features: Mapping[str, keras.KerasTensor],
    levels: Mapping[str, Level],
    options: DecoderOptions,
) -> keras.KerasTensor:
    """Lateral 1x1 convolutions; transpose convolutions add them, from deep to shallow.

    Two 3x3 convolutions follow the deepest lateral and each sum. Channels double from each
    level to the next deeper one, so that these take equally long at every level. Laterals, sums
    and convolutions are followed by group normalisation and a ReLU.

    Args:
      features: By level, from deep to shallow; each level has twice the stride of the next.
      levels: Their specifications.
      options: `channels` is the width at the shallowest level, a multiple of 8.

    Raises:
      UserError: The channels are not a positive multiple of 8.
    """
    if options.channels < 1 or options.channels % _GROUPS:
        raise UserError(
            f"config.model.decoder_channels={options.channels} must be a positive multiple of "
            f"{_GROUPS} with config.model.decoder=fpn"
        )
    seed, finest = options.seed, min(level.stride for level in levels.values())
    total = None
    for name, feature in features.items():
        level = levels[name]
        number = level.stride.bit_length() - 1
        scaled = keras.layers.Rescaling(1 / level.scale, name=f"scale_{name}")(feature)
        channels = options.channels * (level.stride // finest)
        # The normalisation cancels a bias, and what is left of its gradient is noise.
        lateral = _convolve(scaled, channels, f"lateral_{name}", seed + number, use_bias=False)
        lateral = _normalise(lateral, f"lateral_{name}")
        if total is None:
            total = lateral
        else:
            total = upsample(total, 2, channels, f"upsample_to_{name}", seed)
            total = keras.layers.Add(name=f"add_{name}")([total, lateral])
            total = _normalise(total, f"sum_{name}")
        for conv in range(1, _CONVS_PER_LEVEL + 1):
            layer = f"conv_{name}_{conv}"
            conv_seed = seed + 10 * number + conv
            total = _convolve(total, channels, layer, conv_seed, kernel_size=3, use_bias=False)
            total = _normalise(total, layer)
    reduced = _convolve(total, _REDUCED_CHANNELS, "reduce", seed)
    # In float32 whatever the precision, as a softmax follows.
    return upsample(reduced, finest, options.num_classes, "upsample_to_image", seed, "float32")


FPN = Decoder(("P5", "P4", "P3", "P2"), build_fpn)


def _convolve(
    x: keras.KerasTensor,
    channels: int,
    name: str,
    seed: int,
    *,
    kernel_size: int = 1,
    use_bias: bool = True,
) -> keras.KerasTensor:
    return keras.layers.Conv2D(
        channels,
        kernel_size,
        padding="same",
        use_bias=use_bias,
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
        name=name,
    )(x)


def _normalise(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    x = keras.layers.GroupNormalization(_GROUPS, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
