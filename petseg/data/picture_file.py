"""Picture files of all kinds: which ones petseg reads, and which RGB pixels they have.

Conversion and prediction both decide here, so that a model sees what it was trained on.
"""

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image

from petseg.data import image_range
from petseg.data.image_range import ImageRange

MAX_PIXELS = 178_956_970  # 512 MiB of RGB
UPRIGHT = 1  # the EXIF orientation of a picture that need not be turned
SIDEWAYS = (5, 6, 7, 8)  # the orientations that swap height and width

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")
_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
_SIGNATURE_BYTES = 12
_PNG_SIDES = slice(16, 24)
_ORIENTATION = 0x0112  # EXIF tag
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF tags, and a value
_START_OF_FRAME = (0xC0, 0xC1, 0xC2)  # JPEG: baseline, extended, progressive
_APP1 = 0xE1
_STRIP_PIXELS = 1 << 22  # what is converted at a time

# What Pillow raises for damaged pictures and for odd metadata, which fuzzing shows.
_FAILURES = (
    *(OSError, ValueError, SyntaxError, EOFError, TypeError, AttributeError),
    *(LookupError, ArithmeticError, struct.error, zlib.error),
)

# check_size refuses what Pillow would merely warn of.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


class BadFile(Exception):
    """Raised for a picture that cannot be used; the message is the reason."""


def picture_format(content: bytes) -> str:
    """Returns the format by a file's first bytes, or 'unknown'."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    for signature, name in _SIGNATURES.items():
        if content.startswith(signature):
            return name
    return "unknown"


@contextlib.contextmanager
def open_picture(file: bytes | BinaryIO, what: str) -> Iterator[Image.Image]:
    """Opens a picture and reads its header, and no more unless it is used.

    Args:
      file: Its content, or an open file.
      what: What the messages call it.

    Raises:
      BadFile: It is of no known format, has more than MAX_PIXELS pixels, or reading or using it
        fails.
    """
    opened = io.BytesIO(file) if isinstance(file, bytes) else file
    kind = picture_format(opened.read(_SIGNATURE_BYTES))
    opened.seek(0)
    if kind == "unknown":
        raise BadFile(f"{what} is no picture that petseg reads")
    try:
        with Image.open(opened, formats=_FORMATS) as picture:
            check_size(picture.height, picture.width, what)
            yield picture
    except Image.DecompressionBombError as error:
        raise BadFile(f"{what} has more than {MAX_PIXELS:,} pixels") from error
    except _FAILURES as error:
        raise BadFile(f"{what} is a damaged or unreadable {kind}") from error


def check_size(height: int, width: int, what: str) -> None:
    """Raises BadFile if a picture's header claims more than MAX_PIXELS pixels, or none."""
    if not 0 < height * width <= MAX_PIXELS:
        raise BadFile(f"{what} claims {width:,}x{height:,} px; 1 to {MAX_PIXELS:,} are possible")


def size_of_plain_jpeg(content: bytes) -> tuple[int, int] | None:
    """Returns height and width of a JPEG of three 8-bit components without EXIF.

    None for everything else, which Pillow opens in ten times as long.
    """
    position = 2
    while content[position : position + 1] == b"\xff" and position + 9 < len(content):
        marker = content[position + 1]
        length = int.from_bytes(content[position + 2 : position + 4])
        if marker in _START_OF_FRAME:
            height = int.from_bytes(content[position + 5 : position + 7])
            width = int.from_bytes(content[position + 7 : position + 9])
            bits, components = content[position + 4], content[position + 9]
            is_plain = bits == 8 and components == 3 and height and width
            return (height, width) if is_plain else None
        if marker == _APP1 and content[position + 4 : position + 8] == b"Exif":
            return None
        position += 2 + length
    return None


def size_by_header(content: bytes) -> tuple[int, int] | None:
    """Returns the height and width that a picture's header claims; None if it cannot be read."""
    kind = picture_format(content)
    if kind == "PNG" and content[12:16] == b"IHDR":
        sides = content[_PNG_SIDES]
        return int.from_bytes(sides[4:]), int.from_bytes(sides[:4])
    if kind == "JPEG" and (size := size_of_plain_jpeg(content)) is not None:
        return size
    try:
        with open_picture(content, "picture") as picture:
            return picture.height, picture.width
    except BadFile:
        return None


def is_jpeg(picture: Image.Image) -> bool:
    """Whether it is a JPEG, perhaps followed by small copies, as cameras write it (MPO)."""
    return picture.format in ("JPEG", "MPO")


def frames_of(picture: Image.Image) -> int:
    """Returns the number of frames; 1 if those behind the first are damaged.

    Pixels should be read before: Pillow may have lost its place then.
    """
    try:
        return getattr(picture, "n_frames", 1)
    except _FAILURES:
        return 1


def drops_bits(picture: Image.Image) -> bool:
    """Whether Pillow reads only the upper eight of 16 bits: of more than one channel.

    Known until the picture is loaded.
    """
    if picture.mode.startswith("I") or not picture.tile:
        return False
    how = picture.tile[0].args
    return ";16" in str(how[0] if isinstance(how, tuple) and how else how)


def orientation_of(picture: Image.Image) -> int:
    """Returns the EXIF orientation, 1-8, of the pixels as Pillow gives them."""
    if picture.format == "TIFF":  # Pillow turns it while it decodes
        return UPRIGHT
    if is_jpeg(picture) and "exif" not in picture.info:
        return UPRIGHT
    try:
        orientation = picture.getexif().get(_ORIENTATION, UPRIGHT)
    except _FAILURES:  # damaged metadata; the pixels may be whole
        return UPRIGHT
    return orientation if orientation in range(1, 9) else UPRIGHT


def to_rgb(picture: Image.Image, value_range: ImageRange | None = None) -> Image.Image:
    """Converts a picture to 8 bits of RGB as rgb_strips does; raises BadFile."""
    whole = None
    for first_row, strip in rgb_strips(picture, value_range):
        if strip.size == picture.size:
            return strip
        whole = whole or Image.new("RGB", picture.size)
        whole.paste(strip, (0, first_row))
    return whole


def to_upright_array(picture: Image.Image, value_range: ImageRange | None = None) -> np.ndarray:
    """Converts a picture as rgb_strips does, and turns it as its EXIF tag says.

    Args:
      picture: An open picture.
      value_range: See rgb_strips.

    Returns:
      uint8 [height, width, 3], RGB, as a viewer shows it.

    Raises:
      BadFile: See rgb_strips.
    """
    orientation = orientation_of(picture)
    sides = picture.size if orientation in SIDEWAYS else picture.size[::-1]
    upright = np.empty((*sides, 3), np.uint8)
    stored = _as_stored(upright, orientation)  # shares memory
    for first_row, strip in rgb_strips(picture, value_range):
        stored[first_row : first_row + strip.height] = np.asarray(strip)
    return upright


def rgb_strips(
    picture: Image.Image, value_range: ImageRange | None = None
) -> Iterator[tuple[int, Image.Image]]:
    """Converts a picture to 8 bits of RGB, some rows at a time, which bounds memory.

    Transparent parts come to lie over white, as viewers show them. Of 16 bits, whose range is
    that of the type, the upper eight are taken, as TensorFlow's decoder does.

    Args:
      picture: An open picture.
      value_range: What becomes 0 and 255 in pictures of one channel of 16 or 32 bits, or of real
        numbers; others are as they are without it.

    Yields:
      The number of the first row; the rows, of mode RGB.

    Raises:
      BadFile: The pixels are real numbers, or integers of 32 bits, whose range is not known; or
        there is a range, and of 16 bits in several channels only eight can be read.
    """
    convert = _conversion(picture, value_range)
    rows = max(_STRIP_PIXELS // picture.width, 1)
    if rows >= picture.height:
        yield 0, convert(picture)
        return
    for top in range(0, picture.height, rows):
        bottom = min(top + rows, picture.height)
        yield top, convert(picture.crop((0, top, picture.width, bottom)))


def _conversion(
    picture: Image.Image, value_range: ImageRange | None
) -> Callable[[Image.Image], Image.Image]:
    if value_range and drops_bits(picture):
        raise BadFile(
            "image has 16 bits in each of several channels, to which --image_range cannot be "
            "applied; store it with 8 bits"
        )
    if value_range and picture.mode[0] in "IF":
        return _by_range(picture, value_range)
    if picture.mode.startswith("I;16"):
        return _from_16_bits(picture)
    if picture.mode[0] in "IF":
        raise BadFile(
            f"image has pixels of mode {picture.mode}, whose range is not known; "
            "store them as integers of 8 or 16 bits, or convert with --image_range=LOW,HIGH"
        )
    if "A" in picture.mode or "transparency" in picture.info:
        return _over_white
    return lambda strip: strip.convert("RGB")


def _over_white(strip: Image.Image) -> Image.Image:
    rgba = strip.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _by_range(
    picture: Image.Image, value_range: ImageRange
) -> Callable[[Image.Image], Image.Image]:
    limits = value_range.limits(np.asarray(picture))
    return _by_grey(picture, lambda values: image_range.to_grey(values, *limits))


def _from_16_bits(picture: Image.Image) -> Callable[[Image.Image], Image.Image]:
    tags = getattr(picture, "tag_v2", {})
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]  # 12 is possible
    return _by_grey(picture, lambda values: (values >> (bits - 8)).astype(np.uint8))


def _by_grey(
    picture: Image.Image, to_grey: Callable[[np.ndarray], np.ndarray]
) -> Callable[[Image.Image], Image.Image]:
    """Converts strips by their grey values; what is transparent is white."""
    is_inverted = getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    transparent = picture.info.get("transparency")

    def convert(strip: Image.Image) -> Image.Image:
        values = np.asarray(strip)
        grey = to_grey(values)
        if is_inverted:
            grey = 255 - grey
        if transparent is not None:
            grey[values == transparent] = 255
        return Image.fromarray(grey).convert("RGB")

    return convert


def _as_stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """A view of an upright picture, [height, width, ...], in the order of its file."""
    view = upright.swapaxes(0, 1) if orientation in SIDEWAYS else upright
    if orientation in (3, 4, 6, 7):
        view = view[::-1]
    return view[:, ::-1] if orientation in (2, 3, 7, 8) else view
