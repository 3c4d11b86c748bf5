"""DeepLabv3+: dilated separable convolutions at several rates, refined at stride 4.

Source: Chen, Zhu, Papandreou, Schroff and Adam 2018.
"""

from collections.abc import Mapping

import keras

from petseg.models.decoders.base import Decoder, DecoderOptions
from petseg.models.encoders.base import Level
from petseg.models.layers.convolution import (
    convolve_and_normalise,
    normalise,
    require_groups,
    seed_of,
)
from petseg.models.layers.resizing import pool_and_convolve
from petseg.models.layers.upsampling import interpolate, upsample_to_logits

_OUTPUT_STRIDE = 16
_RATES = (6, 12, 18)  # the published ones for this stride
_CONVS = 2
_KERNEL_SIZE = 3


def build_deeplab_v3_plus(
    features: Mapping[str, keras.KerasTensor],
    levels: Mapping[str, Level],
    options: DecoderOptions,
) -> keras.KerasTensor:
    """ASPP on P5; then, beside a few channels of P2, two 3x3 convolutions.

    Args:
      features: P5, at stride 16, and P2, at stride 4.
      levels: Their specifications.
      options: `channels` is the width at P2, a multiple of 8; ASPP has 4 times as many, and P2
        is reduced to half of it.

    Raises:
      UserError: The channels are not a positive multiple of 8.
    """
    require_groups(options.channels, "deeplab_v3_plus")
    seed, channels = options.seed, options.channels
    (deep, shallow), (deep_stride, stride) = features, (one.stride for one in levels.values())
    scaled = {
        name: keras.layers.Rescaling(1 / levels[name].scale, name=f"scale_{name}")(feature)
        for name, feature in features.items()
    }
    context = _aspp(scaled[deep], channels * deep_stride // stride, seed)
    upsampled = interpolate(context, deep_stride // stride, f"upsample_to_{shallow}")
    skip = _convolve(scaled[shallow], channels // 2, f"skip_{shallow}", seed, kernel_size=1)
    total = keras.layers.Concatenate(name=f"concatenate_{shallow}")([upsampled, skip])
    for conv in range(1, _CONVS + 1):
        total = _convolve(total, channels, f"conv_{shallow}_{conv}", seed)
    return upsample_to_logits(total, stride, options.num_classes, seed)


DEEPLAB_V3_PLUS = Decoder(("P5", "P2"), build_deeplab_v3_plus, output_stride=_OUTPUT_STRIDE)


def _aspp(x: keras.KerasTensor, channels: int, seed: int) -> keras.KerasTensor:
    """Atrous spatial pyramid pooling: a 1x1 convolution, dilated ones, and the whole image."""
    parts = [_convolve(x, channels, "aspp_1x1", seed, kernel_size=1)]
    parts += [_atrous(x, channels, rate, f"aspp_rate_{rate}", seed) for rate in _RATES]
    parts.append(pool_and_convolve(x, 1, channels, "aspp_image", seed))
    joined = keras.layers.Concatenate(name="aspp_concatenate")(parts)
    return _convolve(joined, channels, "aspp_project", seed, kernel_size=1)


def _atrous(
    x: keras.KerasTensor, channels: int, rate: int, name: str, seed: int
) -> keras.KerasTensor:
    """A separable dilated 3x3 convolution, as published; a plain one multiplies 9 times as much."""
    x = keras.layers.SeparableConv2D(
        channels,
        _KERNEL_SIZE,
        padding="same",
        dilation_rate=rate,
        use_bias=False,
        # Glorot's takes all channels for inputs of each, and makes the sums too small.
        depthwise_initializer=keras.initializers.RandomNormal(
            stddev=1 / _KERNEL_SIZE, seed=seed_of(f"{name}_depthwise", seed)
        ),
        pointwise_initializer=keras.initializers.GlorotUniform(seed=seed_of(name, seed)),
        name=name,
    )(x)
    return normalise(x, name)


def _convolve(
    x: keras.KerasTensor, channels: int, name: str, seed: int, kernel_size: int = _KERNEL_SIZE
) -> keras.KerasTensor:
    return convolve_and_normalise(x, channels, name, seed_of(name, seed), kernel_size=kernel_size)
