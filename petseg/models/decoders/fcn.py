"""FCN: scores of each level, added from deep to shallow (Long, Shelhamer and Darrell 2015)."""

from collections.abc import Mapping

import keras

from petseg.models.decoders.base import Decoder, DecoderOptions
from petseg.models.encoders.base import Level
from petseg.models.layers.upsampling import upsample

_SCORE_STDDEV = 0.02


def build_fcn(
    features: Mapping[str, keras.KerasTensor],
    levels: Mapping[str, Level],
    options: DecoderOptions,
) -> keras.KerasTensor:
    """A 1x1 convolution scores each level; transpose convolutions add the scores.

    The published FCN-8s has one score channel a class (channels=0). More channels let the last
    transpose convolution draw edges within a feature's pixels; the decoder stays linear.

    Args:
      features: By level, from deep to shallow; each level has twice the stride of the next.
      levels: Their specifications.
      options: `channels` is the number of score channels; 0 is one a class.
    """
    channels, seed = options.channels or options.num_classes, options.seed
    total = None
    for name, feature in features.items():
        scaled = keras.layers.Rescaling(1 / levels[name].scale, name=f"scale_{name}")(feature)
        score = keras.layers.Conv2D(
            channels,
            1,
            kernel_initializer=keras.initializers.RandomNormal(
                stddev=_SCORE_STDDEV, seed=seed + levels[name].stride.bit_length() - 1
            ),
            name=f"score_{name}",
        )(scaled)
        if total is None:
            total = score
        else:
            total = upsample(total, 2, channels, f"upsample_to_{name}", seed)
            total = keras.layers.Add(name=f"add_{name}")([total, score])
    stride = levels[name].stride
    # In float32 whatever the precision, as a softmax follows.
    return upsample(total, stride, options.num_classes, "upsample_to_image", seed, "float32")


FCN32S = Decoder(("P5",), build_fcn)
FCN16S = Decoder(("P5", "P4"), build_fcn)
FCN8S = Decoder(("P5", "P4", "P3"), build_fcn)
FCN2S = Decoder(("P5", "P4", "P3", "P2", "P1"), build_fcn)
