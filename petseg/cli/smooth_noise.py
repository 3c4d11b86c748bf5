"""Smooth noise, for the textures of drawn data sets."""

import numpy as np
from PIL import Image


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell_px: float) -> np.ndarray:
    """Draws smooth noise: float32 [height, width] in 0-1, with features of about cell_px."""
    rows, columns = max(2, round(height / cell_px)), max(2, round(width / cell_px))
    small = Image.fromarray(rng.random((rows, columns), dtype=np.float32))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).clip(0, 1)
