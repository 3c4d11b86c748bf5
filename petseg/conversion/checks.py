"""Checks that image and mask files share: their format, and how a bad file is refused."""

import contextlib
import io
from collections.abc import Iterator

from PIL import Image

MAX_PIXELS = 178_956_970  # Pillow's limit: 512 MiB of RGB
_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}


class BadFile(Exception):
    """Raised for a file that cannot go into a shard; the message is the reason."""


def picture_format(content: bytes) -> str:
    """Returns the format by a file's first bytes, or 'unknown'."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    for signature, name in _SIGNATURES.items():
        if content.startswith(signature):
            return name
    return "unknown"


@contextlib.contextmanager
def open_picture(content: bytes, what: str) -> Iterator[Image.Image]:
    """Opens a picture and reads its header; raises BadFile if that or its use fails."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            yield picture
    except Image.DecompressionBombError as error:
        raise BadFile(f"{what} has more than {MAX_PIXELS:,} pixels") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        kind = picture_format(content)
        raise BadFile(f"{what} is a damaged or unreadable {kind}") from error


def check_size(height: int, width: int, what: str) -> None:
    """Raises BadFile if a picture's header claims more than MAX_PIXELS pixels, or none."""
    if not 0 < height * width <= MAX_PIXELS:
        raise BadFile(f"{what} claims {width:,}x{height:,} px; 1 to {MAX_PIXELS:,} are possible")
