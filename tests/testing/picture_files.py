"""Tiny picture files for tests in which only names, or single masks, matter."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def touch(folder: Path, names: Iterable[str], content: bytes = b"x") -> Path:
    """Writes files of a few bytes; returns the folder."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def draw_pairs(folder: Path, masks: dict[str, np.ndarray]) -> Path:
    """Writes images/NAME.jpg and masks/NAME.png for uint8 masks; returns the folder."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for name, mask in masks.items():
        grey = np.stack([mask // 2 + 50] * 3, -1)
        Image.fromarray(grey).save(folder / "images" / f"{name}.jpg")
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
    return folder
