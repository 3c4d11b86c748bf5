"""PSPNet: averages over a pyramid of regions beside the deepest features (Zhao et al. 2017)."""

from collections.abc import Mapping

import keras

from petseg.errors import UserError
from petseg.models.decoders.base import Decoder, DecoderOptions
from petseg.models.encoders.base import Level
from petseg.models.layers.convolution import (
    convolve_and_normalise,
    require_groups,
    seed_of,
)
from petseg.models.layers.resizing import pool_and_convolve
from petseg.models.layers.upsampling import upsample_to_logits

_BINS = (1, 2, 3, 6)
_OUTPUT_STRIDE = 16
_SIDE_STEP_PX = 32  # image sizes are multiples of it


def build_pspnet(
    features: Mapping[str, keras.KerasTensor],
    levels: Mapping[str, Level],
    options: DecoderOptions,
) -> keras.KerasTensor:
    """Concatenates P5 and its averages over 1, 2, 3 and 6 bins a side; a 3x3 convolution.

    Bins may share features, so any size does that has a feature for each bin.

    Args:
      features: P5, at stride 16.
      levels: Its specification.
      options: `channels` is the width of each of the pyramid's four parts, a multiple of 8;
        the 3x3 convolution has as many channels as all four.

    Raises:
      UserError: The channels are not a positive multiple of 8, or the image is too small.
    """
    require_groups(options.channels, "pspnet")
    seed = options.seed
    ((name, feature),) = features.items()
    stride = levels[name].stride
    _require_bins(feature.shape[1:3], stride)
    scaled = keras.layers.Rescaling(1 / levels[name].scale, name=f"scale_{name}")(feature)
    parts = [
        pool_and_convolve(scaled, bins, options.channels, f"pyramid_{bins}", seed) for bins in _BINS
    ]
    total = keras.layers.Concatenate(name="concatenate")([scaled, *parts])
    fused = options.channels * len(_BINS)
    total = convolve_and_normalise(total, fused, "fuse", seed_of("fuse", seed))
    return upsample_to_logits(total, stride, options.num_classes, seed)


# Published at stride 8. At 32 a photograph of 224 pixels would have 7 x 7 features for 6 x 6
# bins.
PSPNET = Decoder(("P5",), build_pspnet, output_stride=_OUTPUT_STRIDE)


def _require_bins(sides: tuple[int, int], stride: int) -> None:
    if min(sides) < max(_BINS):
        height, width = (side * stride for side in sides)
        least_px = -(-max(_BINS) * stride // _SIDE_STEP_PX) * _SIDE_STEP_PX
        raise UserError(
            f"config.data.image_size: {height} x {width} pixels are too small for "
            f"config.model.decoder=pspnet, whose {max(_BINS)} bins a side need {max(_BINS)} "
            f"features of stride {stride}; use at least {least_px} pixels a side"
        )
