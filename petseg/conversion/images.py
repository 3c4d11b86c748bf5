"""Checks image files, and repairs those that training could not read."""

import dataclasses
import io

import numpy as np
from PIL import Image

from petseg.data import jpeg, picture_file
from petseg.data.image_range import ImageRange
from petseg.data.picture_file import BadFile, check_size, open_picture, picture_format

REPAIR_JPEG_QUALITY = 95
_ALL_BLACK, _ALL_WHITE = ((0, 0),) * 3, ((255, 255),) * 3  # extremes of the channels


@dataclasses.dataclass(frozen=True)
class CheckedImage:
    """An image that training can read.

    Attributes:
      encoded: RGB JPEG bytes; those of the source unless it was repaired.
      height: Height in pixels.
      width: Width in pixels.
      repair: What was repaired, and how; or None.
      orientation: EXIF orientation of the source, 1-8; the stored pixels are not turned.
    """

    encoded: bytes
    height: int
    width: int
    repair: str | None
    orientation: int = picture_file.UPRIGHT


def check_image(
    content: bytes,
    *,
    decode: bool = True,
    value_range: ImageRange | None = None,
    small: np.ndarray | None = None,
) -> CheckedImage:
    """Checks an image file; re-encodes it if it is not an RGB JPEG.

    An image is good if the decoder that training uses reads it (jpeg.decode_small).

    Args:
      content: The bytes of the file.
      decode: Decode the picture, not only its header.
      value_range: What becomes 0 and 255; see picture_file.rgb_strips.
      small: What jpeg.decode_small gave for it, if that is known.

    Raises:
      BadFile: The file is empty, no picture, or damaged.
    """
    kind = picture_format(content)
    if not content:
        raise BadFile("image is empty (0 bytes)")
    if (size := picture_file.size_of_plain_jpeg(content)) is not None:
        check_size(*size, "image")
        if decode:
            _check_content(content, *size, small)
        return CheckedImage(content, *size, repair=None)
    with open_picture(content, "image") as picture:
        orientation = picture_file.orientation_of(picture)
        if not picture_file.is_jpeg(picture) or picture.mode != "RGB":
            repaired = _re_encode(picture, kind, value_range)
            return dataclasses.replace(repaired, orientation=orientation)
        width, height = picture.size
    if decode:
        _check_content(content, height, width)
    return CheckedImage(content, height, width, None, orientation)


def fit_to_mask(
    image: CheckedImage,
    content: bytes,
    mask_height: int,
    mask_width: int,
    value_range: ImageRange | None = None,
) -> CheckedImage:
    """Turns an image as EXIF asks if its mask was drawn over the turned picture.

    Decoders for training ignore EXIF, so a mask may have been drawn over the stored pixels or
    over the upright picture. Its size says which, unless both have the same size.

    Args:
      image: The checked image.
      content: The bytes of the image's file.
      mask_height: Height in pixels.
      mask_width: Width in pixels.
      value_range: As check_image took it.

    Raises:
      BadFile: The sizes do not fit, or fit both ways.
    """
    stored, upright = (image.height, image.width), (image.height, image.width)
    if image.orientation in picture_file.SIDEWAYS:
        upright = (image.width, image.height)
    mask = (mask_height, mask_width)
    is_turned = image.orientation in range(2, 9)
    if is_turned and mask == stored == upright:
        raise BadFile(
            f"image has EXIF orientation {image.orientation} and its mask fits it turned and "
            "unturned; turn the image upright, or remove the tag, and convert again"
        )
    if mask == stored:
        return image
    if is_turned and mask == upright:
        with open_picture(content, "image") as picture:
            turned = Image.fromarray(picture_file.to_upright_array(picture, value_range))
        encoded = to_jpeg(turned, REPAIR_JPEG_QUALITY, "4:4:4")
        what = f"turned upright (EXIF orientation {image.orientation}), as its mask is"
        return CheckedImage(encoded, *upright, f"image: {what}, {_re_encoded()}")
    raise BadFile(f"mask is {mask_width}x{mask_height} px, its image {image.width}x{image.height}")


def to_jpeg(picture: Image.Image, quality: int, subsampling: str) -> bytes:
    """Encodes an RGB picture as JPEG."""
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=quality, subsampling=subsampling)
    return encoded.getvalue()


def _check_content(
    content: bytes, height: int, width: int, small: np.ndarray | None = None
) -> None:
    if small is None:
        try:
            small = jpeg.decode_small(content)
        except jpeg.DamagedJpeg as reason:
            raise BadFile(f"image is a damaged JPEG: {reason}") from reason
    if small.shape != (-(-height // 8), -(-width // 8)):
        raise BadFile("image is a damaged JPEG: it has two sizes")


def _re_encode(picture: Image.Image, kind: str, value_range: ImageRange | None) -> CheckedImage:
    mode = picture.mode
    rgb = picture_file.to_rgb(picture, value_range)
    is_fixed = value_range and mode[0] in "IF" and not value_range.is_percent
    if is_fixed and rgb.getextrema() in (_ALL_BLACK, _ALL_WHITE):
        values = np.asarray(picture)
        raise BadFile(
            f"image is {'black' if rgb.getpixel((0, 0))[0] == 0 else 'white'} throughout by "
            f"--image_range={value_range.spec()}: its values are {values.min():g} to "
            f"{values.max():g}"
        )
    frames = picture_file.frames_of(picture)
    encoded = to_jpeg(rgb, REPAIR_JPEG_QUALITY, "4:4:4")
    ranged = f", range {value_range.spec()}" if value_range and mode[0] in "IF" else ""
    what = f"{kind}, mode {mode}{ranged}" + (f", first of {frames} frames" if frames > 1 else "")
    return CheckedImage(encoded, rgb.height, rgb.width, f"image: {what}, {_re_encoded()}")


def _re_encoded() -> str:
    return f"re-encoded as RGB JPEG of quality {REPAIR_JPEG_QUALITY}"
