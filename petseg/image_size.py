"""The size of a model's input: one number for squares, or height and width."""

from collections.abc import Sequence
from typing import Annotated

# Annotated, as the parsers of flags are chosen by a field's type, which no plain union may be.
ImageSize = Annotated[int | tuple[int, int], "side of a square, or height and width, in pixels"]


def sides_of(image_size: ImageSize | Sequence[int]) -> tuple[int, int]:
    """Height and width, in pixels."""
    return (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)


def simplest(image_size: object) -> object:
    """One number for two equal ones, and a tuple for a list; what is no size stays as it is."""
    if isinstance(image_size, list | tuple):
        sides = tuple(image_size)
        return sides[0] if len(sides) == 2 and sides[0] == sides[1] else sides
    return image_size


def readable(image_size: ImageSize | Sequence[int]) -> int | str:
    """224, or '224x320' (height x width), as tables, messages and keys say it."""
    size = simplest(image_size)
    return size if isinstance(size, int) else "x".join(map(str, size))


def as_json(image_size: ImageSize) -> int | list[int]:
    """224, or [224, 320], as JSON holds it."""
    return image_size if isinstance(image_size, int) else list(image_size)
