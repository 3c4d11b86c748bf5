"""Is this file a picture that training can read, and if not, can it be repaired?"""

import dataclasses
import io
from collections.abc import Collection

import numpy as np
import tensorflow as tf
from PIL import Image

from petseg import record

REPAIR_JPEG_QUALITY = 95

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
_PNG_GREY, _PNG_PALETTE = 0, 3  # colour types in a PNG's header


class BadFile(Exception):
    """A file that cannot go into a shard; the message is the reason."""


@dataclasses.dataclass(frozen=True)
class CheckedImage:
    """An image that training can read.

    Attributes:
      encoded: RGB JPEG bytes; the source's own unless it was repaired.
      height: pixels.
      width: pixels.
      repair: what was mended, or None.
    """

    encoded: bytes
    height: int
    width: int
    repair: str | None


@dataclasses.dataclass(frozen=True)
class CheckedMask:
    """A mask that training can read.

    Attributes:
      encoded: 8-bit single-channel PNG bytes.
      height: pixels.
      width: pixels.
      pixels_per_label: raw value -> number of pixels.
      repair: what was mended, or None.
    """

    encoded: bytes
    height: int
    width: int
    pixels_per_label: dict[int, int]
    repair: str | None


def picture_format(content: bytes) -> str:
    """The format that a file's first bytes tell, or 'unknown'."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    for signature, name in _SIGNATURES.items():
        if content.startswith(signature):
            return name
    return "unknown"


def check_image(content: bytes) -> CheckedImage:
    """Decodes an image file's bytes in full; re-encodes what is not an RGB JPEG.

    Raises:
      BadFile: it is empty, no picture, or damaged.
    """
    found = picture_format(content)
    if not content:
        raise BadFile("image is empty (0 bytes)")
    if found == "unknown":
        raise BadFile("image is of no known picture format")
    if found == "JPEG":
        # The decoder that training uses is the judge.
        try:
            shape = tf.io.decode_jpeg(content).shape
        except tf.errors.InvalidArgumentError as error:
            raise BadFile("image is a damaged JPEG") from error
        if shape[2] == 3 and _jpeg_components(content) == 3:
            return CheckedImage(content, shape[0], shape[1], repair=None)
    return _repair_image(content, found)


def check_mask(content: bytes, allowed: Collection[int]) -> CheckedMask:
    """Decodes a mask's bytes in full and counts its raw labels.

    A palette PNG, whose indices are the labels, is re-encoded as a
    single-channel one: decoders would otherwise give its colours' luminance.

    Args:
      content: the file.
      allowed: the raw values that may occur.

    Raises:
      BadFile: it is not an 8-bit PNG with one value a pixel, is damaged, or holds
        a value that is not allowed.
    """
    if not content:
        raise BadFile("mask is empty (0 bytes)")
    if picture_format(content) != "PNG":
        raise BadFile(f"mask is not a PNG ({picture_format(content)})")
    bit_depth, colour_type = (content[24], content[25]) if len(content) > 25 else (0, 0)
    repair = None
    if colour_type == _PNG_PALETTE:
        labels, repair = _palette_indices(content), "mask: palette PNG, stored as its indices"
        content = _encode_png(labels)
    elif (bit_depth, colour_type) == (8, _PNG_GREY):
        try:
            labels = record.decode_mask(content).numpy()[..., 0]
        except tf.errors.InvalidArgumentError as error:
            raise BadFile("mask is a damaged PNG") from error
    else:
        raise BadFile(
            f"mask is a PNG of {bit_depth} bits and colour type {colour_type}; "
            "expected 8 bits, one value a pixel"
        )
    counts = np.bincount(labels.ravel(), minlength=256)
    pixels_per_label = {int(v): int(counts[v]) for v in np.flatnonzero(counts)}
    if unknown := sorted(set(pixels_per_label) - set(allowed)):
        raise BadFile(
            f"mask holds values {', '.join(map(str, unknown[:8]))}; "
            f"allowed are {', '.join(map(str, sorted(allowed)))}"
        )
    return CheckedMask(content, labels.shape[0], labels.shape[1], pixels_per_label, repair)


def _jpeg_components(content: bytes) -> int:
    return int(tf.io.extract_jpeg_shape(content)[2])


def _repair_image(content: bytes, found: str) -> CheckedImage:
    try:
        with Image.open(io.BytesIO(content)) as image:
            mode, frames = image.mode, getattr(image, "n_frames", 1)
            if mode[0] in "IF":
                raise BadFile(f"image has pixels of mode {mode}, not 8 bits a channel")
            rgb = _to_rgb(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadFile(f"image is a damaged or unreadable {found}") from error
    encoded = io.BytesIO()
    rgb.save(encoded, "JPEG", quality=REPAIR_JPEG_QUALITY, subsampling="4:4:4")
    what = f"{found}, mode {mode}" + (f", first of {frames} frames" if frames > 1 else "")
    repair = f"image: {what}, re-encoded as RGB JPEG of quality {REPAIR_JPEG_QUALITY}"
    return CheckedImage(encoded.getvalue(), rgb.height, rgb.width, repair)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Transparent parts come to lie over white, as a viewer shows them."""
    if "A" in image.mode or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _palette_indices(content: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.array(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadFile("mask is a damaged PNG") from error


def _encode_png(labels: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(labels).save(encoded, "PNG", optimize=True)
    return encoded.getvalue()
