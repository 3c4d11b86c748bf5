"""Pooling into bins and bilinear resizing, for any height and width, as products of matrices.

The sides are known when a model is built, so the matrices are constants, and every format of
an export knows how to multiply.
"""

import keras
import numpy as np

from petseg.models.layers.convolution import convolve, seed_of


def average_matrix(size: int, bins: int) -> np.ndarray:
    """Averages over bins that cover a side evenly; neighbours share what lies on their border.

    Args:
      size: Length of the side, in features.
      bins: Number of bins; bin i reaches from floor(i size / bins) to ceil((i + 1) size / bins).

    Returns:
      float32 [bins, size], whose rows sum to 1.
    """
    matrix = np.zeros((bins, size), np.float32)
    for index in range(bins):
        begin, end = index * size // bins, -(-(index + 1) * size // bins)
        matrix[index, begin:end] = 1 / (end - begin)
    return matrix


def bilinear_matrix(size: int, new_size: int) -> np.ndarray:
    """Bilinear interpolation between the centres of features; the rim is repeated.

    Args:
      size: Length of the side, in features.
      new_size: Its length afterwards, not less than before.

    Returns:
      float32 [new_size, size], whose rows sum to 1.
    """
    position = np.clip((np.arange(new_size) + 0.5) * size / new_size - 0.5, 0, size - 1)
    distance = np.abs(position[:, None] - np.arange(size))
    return np.maximum(1 - distance, 0).astype(np.float32)


def resize_by(x: keras.KerasTensor, rows: np.ndarray, columns: np.ndarray) -> keras.KerasTensor:
    """Multiplies the height and the width of features by matrices.

    Args:
      x: Float [batch, height, width, channels].
      rows: float32 [new_height, height].
      columns: float32 [new_width, width].

    Returns:
      Of x's dtype [batch, new_height, new_width, channels]; computed in float32.
    """
    _, height, _, channels = x.shape
    wide = keras.ops.matmul(columns, keras.ops.cast(x, "float32"))
    # Rows in one product, without a transposition.
    flat = keras.ops.reshape(wide, (-1, height, len(columns) * channels))
    resized = keras.ops.matmul(rows, flat)
    resized = keras.ops.reshape(resized, (-1, len(rows), len(columns), channels))
    return keras.ops.cast(resized, x.dtype)


def pool_and_convolve(
    x: keras.KerasTensor, bins: int, channels: int, name: str, seed: int
) -> keras.KerasTensor:
    """Context: averages over bins x bins regions, a 1x1 convolution with a ReLU, resized back.

    Without normalisation: over a single region it would leave nothing of a channel.

    Args:
      x: Features [batch, height, width, channels_in].
      bins: Number of regions a side, not above height or width.
      channels: Channels of the result.
      name: Name of the convolution.
      seed: Of the decoder.

    Returns:
      [batch, height, width, channels].
    """
    height, width = x.shape[1:3]
    pooled = resize_by(x, average_matrix(height, bins), average_matrix(width, bins))
    pooled = convolve(pooled, channels, name, seed_of(name, seed), activation="relu")
    return resize_by(pooled, bilinear_matrix(bins, height), bilinear_matrix(bins, width))
