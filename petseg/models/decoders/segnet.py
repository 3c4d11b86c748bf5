"""SegNet: the encoder backwards, with each maximum put back where it was.

Source: Badrinarayanan, Kendall and Cipolla 2017.
"""

from collections.abc import Mapping

import keras

from petseg.models.decoders.base import Decoder, DecoderOptions
from petseg.models.encoders.base import Level
from petseg.models.layers.convolution import (
    convolve,
    convolve_and_normalise,
    require_groups,
    seed_of,
)
from petseg.models.layers.unpooling import unpool


def build_segnet(
    features: Mapping[str, keras.KerasTensor],
    levels: Mapping[str, Level],
    options: DecoderOptions,
) -> keras.KerasTensor:
    """Unpools P5 by what was pooled, C5 to C1, with two 3x3 convolutions behind each unpooling.

    The second one gives as many channels as the next unpooling has places for. Each is followed
    by group normalisation and a ReLU. The published network is as deep as its encoder: it has
    three convolutions where this one has two.

    Args:
      features: P5, and C5 to C1: from deep to shallow.
      levels: Their specifications.
      options: `channels` is the width of the first convolution at C1, a multiple of 8; it
        doubles with each deeper level, up to the encoder's own. 0 is the encoder's everywhere.

    Raises:
      UserError: The channels are neither 0 nor a positive multiple of 8.
    """
    if options.channels:
        require_groups(options.channels, "segnet")
    seed = options.seed
    deepest, *names = features
    total = _scale(features[deepest], deepest, levels[deepest])
    for position, name in enumerate(names):
        level = levels[name]
        total = unpool(total, features[name], level.scale)
        wanted = options.channels * level.stride or level.channels
        widths = [min(wanted, level.channels)]
        if name != names[-1]:
            widths.append(levels[names[position + 1]].channels)
        for conv, channels in enumerate(widths, 1):
            layer = f"conv_{name}_{conv}"
            total = convolve_and_normalise(total, channels, layer, seed_of(layer, seed))
    # In float32 whatever the precision, as a softmax follows.
    return convolve(total, options.num_classes, "score", seed_of("score", seed), dtype="float32")


SEGNET = Decoder(("P5", "C5", "C4", "C3", "C2", "C1"), build_segnet, needs_images=True)


def _scale(feature: keras.KerasTensor, name: str, level: Level) -> keras.KerasTensor:
    return keras.layers.Rescaling(1 / level.scale, name=f"scale_{name}")(feature)
