"""Convolutions with group normalisation (Wu and He 2018) and a ReLU."""

import math
import zlib

import keras

from petseg.errors import UserError

GROUPS = 8


def convolve(
    x: keras.KerasTensor,
    channels: int,
    name: str,
    seed: int,
    *,
    kernel_size: int = 1,
    use_bias: bool = True,
    activation: str | None = None,
    dtype: str | None = None,
) -> keras.KerasTensor:
    """A convolution whose result is as high and wide as its input.

    Args:
      x: Features [batch, height, width, channels_in].
      channels: Channels of the result.
      name: Name of the layer.
      seed: Seed of the initial weights.
      kernel_size: Rows and columns of the kernel.
      use_bias: Whether a bias is added.
      activation: A name that Keras knows; None is none.
      dtype: Of the computation; None is the policy's.

    Returns:
      [batch, height, width, channels].
    """
    return keras.layers.Conv2D(
        channels,
        kernel_size,
        padding="same",
        use_bias=use_bias,
        activation=activation,
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
        dtype=dtype,
        name=name,
    )(x)


def normalise(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Group normalisation, in the most groups of up to 8 that divide the channels, and a ReLU."""
    groups = math.gcd(GROUPS, x.shape[-1])
    x = keras.layers.GroupNormalization(groups, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def convolve_and_normalise(
    x: keras.KerasTensor,
    channels: int,
    name: str,
    seed: int,
    *,
    kernel_size: int = 3,
) -> keras.KerasTensor:
    """A convolution, group normalisation and a ReLU; see `convolve`."""
    # The normalisation cancels a bias, and what is left of its gradient is noise.
    x = convolve(x, channels, name, seed, kernel_size=kernel_size, use_bias=False)
    return normalise(x, name)


def seed_of(name: str, seed: int) -> int:
    """A layer's own seed, so that no two layers of a decoder start with equal weights."""
    return zlib.crc32(f"{seed}/{name}".encode())


def require_groups(channels: int, decoder: str) -> None:
    """Raises UserError unless channels are a positive multiple of 8."""
    if channels < 1 or channels % GROUPS:
        raise UserError(
            f"config.model.decoder_channels={channels} must be a positive multiple of "
            f"{GROUPS} with config.model.decoder={decoder}"
        )
