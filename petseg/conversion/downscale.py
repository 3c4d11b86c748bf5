"""Makes pictures smaller than their source; training needs no more than it crops from."""

import numpy as np
from PIL import Image

from petseg.conversion import images, masks
from petseg.conversion.images import CheckedImage
from petseg.conversion.masks import CheckedMask
from petseg.conversion.sources.base import MaskRules
from petseg.data.picture_file import open_picture

_SUBSAMPLING = "4:2:0"  # as cameras do
_MARGIN = 2  # an image is decoded this many times as large as it is stored, at least


def make_smaller(
    image: CheckedImage, mask: CheckedMask, rules: MaskRules, short_side_px: int, jpeg_quality: int
) -> tuple[CheckedImage, CheckedMask]:
    """Scales an image and its mask down to a short side; never up.

    Images are resized by Lanczos's filter, masks by nearest neighbour on the same grid. An image
    that is to be less than a quarter as high is decoded at a half, a quarter or an eighth, but no
    smaller than twice the new size, which halves the time. A pair that is small enough keeps its
    bytes.

    Args:
      image: The checked image, of the mask's size.
      mask: The checked mask.
      rules: What the mask may contain.
      short_side_px: The new short side, in pixels.
      jpeg_quality: Quality of the new image, 1-100.

    Raises:
      BadFile: The image is damaged.
    """
    short = min(image.height, image.width)
    if short <= short_side_px:
        return image, mask
    size = tuple(round(side * short_side_px / short) for side in (image.width, image.height))
    with open_picture(image.encoded, "image") as picture:
        _, box = picture.draft("RGB", tuple(_MARGIN * side for side in size)) or (None, None)
        small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS, box)
    with open_picture(mask.encoded, "mask") as picture:
        labels = np.asarray(picture.resize(size, Image.Resampling.NEAREST))
    encoded = images.to_jpeg(small, jpeg_quality, _SUBSAMPLING)
    return (
        CheckedImage(encoded, small.height, small.width, image.repair),
        CheckedMask(
            masks.encode_mask(labels),
            *labels.shape,
            masks.count_labels(labels, rules),
            repair=mask.repair,
        ),
    )
