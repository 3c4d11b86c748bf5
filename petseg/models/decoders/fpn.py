"""A feature pyramid with group normalisation.

Sources: Lin et al. 2017 (feature pyramid networks); Wu and He 2018 (group normalisation).
"""

from collections.abc import Mapping

import keras

from petseg.models.decoders.base import Decoder, DecoderOptions
from petseg.models.encoders.base import Level
from petseg.models.layers.convolution import (
    convolve,
    convolve_and_normalise,
    normalise,
    require_groups,
)
from petseg.models.layers.upsampling import REDUCED_CHANNELS, upsample

_CONVS_PER_LEVEL = 2


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
    require_groups(options.channels, "fpn")
    seed, finest = options.seed, min(level.stride for level in levels.values())
    total = None
    for name, feature in features.items():
        level = levels[name]
        number = level.stride.bit_length() - 1
        scaled = keras.layers.Rescaling(1 / level.scale, name=f"scale_{name}")(feature)
        channels = options.channels * (level.stride // finest)
        lateral = convolve_and_normalise(
            scaled, channels, f"lateral_{name}", seed + number, kernel_size=1
        )
        if total is None:
            total = lateral
        else:
            total = upsample(total, 2, channels, f"upsample_to_{name}", seed)
            total = keras.layers.Add(name=f"add_{name}")([total, lateral])
            total = normalise(total, f"sum_{name}")
        for conv in range(1, _CONVS_PER_LEVEL + 1):
            layer = f"conv_{name}_{conv}"
            total = convolve_and_normalise(total, channels, layer, seed + 10 * number + conv)
    reduced = convolve(total, REDUCED_CHANNELS, "reduce", seed)
    # In float32 whatever the precision, as a softmax follows.
    return upsample(reduced, finest, options.num_classes, "upsample_to_image", seed, "float32")


FPN = Decoder(("P5", "P4", "P3", "P2"), build_fpn)
