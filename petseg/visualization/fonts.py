"""Fonts for names in any script: installed ones that have their characters, or escapes.

A character that no font has would be drawn as an empty box, without a word.
"""

import functools
import os
from collections.abc import Iterable, Sequence

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import ImageDraw, ImageFont

_FIRST = "DejaVu Sans"  # comes with matplotlib
_BOXES = "Last Resort"  # has every character, and draws boxes for them
_SIZE_PX = 10  # that of Pillow's default
_NO_CHARACTER = "\U0010fffe"


def fit(texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """Chooses matplotlib's font families for texts.

    Returns:
      The texts, in which characters that no font has are escaped as in Python ('\\u6c34'); and
      the families to look in, in order.
    """
    texts, families = list(texts), [_FIRST]
    missing = _lacking(_first_path(), "".join(texts))
    if missing and (found := _font_with(missing, len(font_manager.fontManager.ttflist))):
        families.append(found[0])
        missing = _lacking(found[1], "".join(missing))
    return [_escaped(text, missing) for text in texts], families


def write(
    draw: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, fill: str = "black"
) -> None:
    """Draws a line of text with Pillow, in a font that has its characters."""
    text, font = _pillow_font(text)
    draw.text(corner, text, fill=fill, font=font)


def width(draw: ImageDraw.ImageDraw, text: str) -> float:
    """Returns the width of what `write` draws, in pixels."""
    text, font = _pillow_font(text)
    return draw.textlength(text, font=font)


def shortened(
    draw: ImageDraw.ImageDraw, text: str, width_px: float, *, is_end_kept: bool = False
) -> str:
    """Cuts a text that `write` would draw wider than this, and marks the cut with an ellipsis.

    Args:
      draw: What it will be drawn on.
      text: The text.
      width_px: What there is room for; at least one character stays.
      is_end_kept: Whether the beginning is cut off, not the end.
    """
    cut = text
    while width(draw, cut) > width_px and len(text) > 1:
        text = text[1:] if is_end_kept else text[:-1]
        cut = f"…{text}" if is_end_kept else f"{text}…"
    return cut


def box(
    draw: ImageDraw.ImageDraw, corner: tuple[float, float], text: str
) -> tuple[float, float, float, float]:
    """Returns left, top, right and bottom of what `write` draws, in pixels."""
    text, font = _pillow_font(text)
    return draw.textbbox(corner, text, font=font)


@functools.lru_cache(maxsize=4096)
def _pillow_font(text: str) -> tuple[str, ImageFont.ImageFont | ImageFont.FreeTypeFont | None]:
    """Returns a text as it can be drawn, and the font; None for Pillow's default."""
    if all(_is_in_default(character) for character in set(text)):
        return text, None
    path = _first_path()
    if missing := _lacking(path, text):
        # One font for all of the text: Pillow joins none.
        found = _font_with(frozenset(text), len(font_manager.fontManager.ttflist))
        path = found[1] if found and not _lacking(found[1], text) else path
        missing = _lacking(path, text)
    try:
        return _escaped(text, missing), ImageFont.truetype(path, _SIZE_PX)
    except (OSError, ImportError):  # a Pillow without FreeType
        return text.encode("ascii", "backslashreplace").decode(), None


@functools.cache
def _is_in_default(character: str) -> bool:
    font = ImageFont.load_default()
    try:
        return bytes(font.getmask(character)) != bytes(font.getmask(_NO_CHARACTER))
    except UnicodeEncodeError:
        return character.isascii()


def _first_path() -> str:
    return os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


def _lacking(path: str, text: str) -> frozenset[str]:
    font = FT2Font(path)
    return frozenset(char for char in set(text) if not font.get_char_index(ord(char)))


@functools.lru_cache(maxsize=64)
def _font_with(characters: frozenset[str], installed: int) -> tuple[str, str] | None:
    """Returns family and path of the installed font that has most of some characters.

    Args:
      characters: The characters.
      installed: The number of installed fonts, so that a new one is noticed.
    """
    del installed
    best, most = None, 0
    for name in sorted({entry.name for entry in font_manager.fontManager.ttflist}):
        if name.startswith(_BOXES):
            continue
        try:
            path = font_manager.findfont(name, fallback_to_default=False)
            has = len(characters) - len(_lacking(path, "".join(characters)))
        except (OSError, RuntimeError, ValueError):  # a font that cannot be read
            continue
        if has > most:
            best, most = (name, path), has
    return best


def _escaped(text: str, missing: Sequence[str] | frozenset[str]) -> str:
    return "".join(
        char.encode("unicode_escape").decode() if char in missing else char for char in text
    )
