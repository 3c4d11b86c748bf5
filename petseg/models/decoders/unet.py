"""U-Net: features of every level, the image included, side by side.

Source: Ronneberger, Fischer and Brox 2015.
"""

from collections.abc import Mapping

import keras

from petseg.models.decoders.base import Decoder, DecoderOptions
from petseg.models.encoders.base import IMAGE_LEVEL, Level
from petseg.models.layers.convolution import (
    convolve,
    convolve_and_normalise,
    require_groups,
    seed_of,
)
from petseg.models.layers.upsampling import interpolate

_CONVS_PER_LEVEL = 2
_MOST_DOUBLED = 8
_HALF_RANGE = 127.5  # of a pixel


def build_unet(
    features: Mapping[str, keras.KerasTensor],
    levels: Mapping[str, Level],
    options: DecoderOptions,
) -> keras.KerasTensor:
    """Upsamples, concatenates the next level and convolves twice, from P5 to the image.

    A 1x1 convolution halves the channels before bilinear interpolation doubles the sides: that
    is linear in both orders, and multiplies far less often than a transpose convolution, or a 3x3
    convolution behind a nearest-neighbour resize. Both 3x3 convolutions of a level are followed
    by group normalisation and a ReLU.

    Args:
      features: By level, from deep to shallow; each level has twice the stride of the next.
      levels: Their specifications.
      options: `channels` is the width at P1, a multiple of 8. It doubles with each deeper
        level, up to 8 times; at the size of the image, where a channel is dearest, it is half.

    Raises:
      UserError: The channels are not a positive multiple of 8.
    """
    require_groups(options.channels, "unet")
    seed, total = options.seed, None
    for name, feature in features.items():
        stride = levels[name].stride
        channels = min(options.channels * stride // 2, options.channels * _MOST_DOUBLED)
        skip = _scale(feature, name, levels[name])
        if total is None:
            total = skip
        else:
            layer = f"reduce_to_{name}"
            total = convolve(total, channels, layer, seed_of(layer, seed), use_bias=False)
            total = interpolate(total, 2, f"upsample_to_{name}")
            total = keras.layers.Concatenate(name=f"concatenate_{name}")([total, skip])
        for conv in range(1, _CONVS_PER_LEVEL + 1):
            layer = f"conv_{name}_{conv}"
            total = convolve_and_normalise(total, channels, layer, seed_of(layer, seed))
    # In float32 whatever the precision, as a softmax follows.
    return convolve(total, options.num_classes, "score", seed_of("score", seed), dtype="float32")


UNET = Decoder(("P5", "P4", "P3", "P2", "P1", IMAGE_LEVEL), build_unet)


def _scale(feature: keras.KerasTensor, name: str, level: Level) -> keras.KerasTensor:
    if name == IMAGE_LEVEL:
        return keras.layers.Rescaling(1 / _HALF_RANGE, -1.0, name=f"scale_{name}")(feature)
    return keras.layers.Rescaling(1 / level.scale, name=f"scale_{name}")(feature)
