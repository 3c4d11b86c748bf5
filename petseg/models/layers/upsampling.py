"""Upsampling: transpose convolutions that start as bilinear interpolation, and that itself."""

import keras
import numpy as np

from petseg.models.layers.convolution import convolve, seed_of

# A last transpose convolution to the image from more channels takes as long as a decoder.
REDUCED_CHANNELS = 16
_EXTRA_CHANNEL_STDDEV = 0.01


def upsample(
    x: keras.KerasTensor,
    stride: int,
    channels: int,
    name: str,
    seed: int,
    dtype: str | None = None,
) -> keras.KerasTensor:
    """A transpose convolution that starts as bilinear interpolation.

    Args:
      x: Features [batch, height, width, channels_in].
      stride: Factor of upsampling; the kernel has twice that size.
      channels: Channels of the result.
      name: Name of the layer.
      seed: Seed of the weights of further channels; see bilinear_kernel.
      dtype: Of the computation; None is the policy's.

    Returns:
      [batch, height * stride, width * stride, channels].
    """
    kernel = bilinear_kernel(stride, channels, x.shape[-1], seed)
    return keras.layers.Conv2DTranspose(
        channels,
        2 * stride,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=keras.initializers.Constant(kernel),
        dtype=dtype,
        name=name,
    )(x)


def upsample_to_logits(
    x: keras.KerasTensor, stride: int, classes: int, seed: int
) -> keras.KerasTensor:
    """Logits at the size of the image, from few channels.

    Args:
      x: Features [batch, height, width, channels].
      stride: Pixels of the image per feature.
      classes: Logits of each pixel.
      seed: Of the decoder.

    Returns:
      float32, whatever the precision, as a softmax follows: [batch, height * stride,
      width * stride, classes].
    """
    reduced = convolve(x, REDUCED_CHANNELS, "reduce", seed_of("reduce", seed))
    name = "upsample_to_image"
    return upsample(reduced, stride, classes, name, seed_of(name, seed), "float32")


def interpolate(x: keras.KerasTensor, stride: int, name: str) -> keras.KerasTensor:
    """Bilinear interpolation between the centres of features; the rim is repeated.

    It multiplies 4 times for each value, a transpose convolution 4 times for each channel that
    it sums over.

    Args:
      x: Features [batch, height, width, channels].
      stride: Factor of upsampling.
      name: Name of the layer.

    Returns:
      [batch, height * stride, width * stride, channels].
    """
    return keras.layers.UpSampling2D(stride, interpolation="bilinear", name=name)(x)


def bilinear_kernel(stride: int, channels_out: int, channels_in: int, seed: int = 0) -> np.ndarray:
    """A kernel with which each output channel interpolates the input channel of its number.

    Input channels beyond the number of output channels start with small random weights, since
    zeros would get the same gradient for all of them.

    Returns:
      float32 [2 stride, 2 stride, channels_out, channels_in].
    """
    shape = (2 * stride, 2 * stride, channels_out, channels_in)
    kernel = np.random.default_rng(seed).normal(0, _EXTRA_CHANNEL_STDDEV, shape)
    kernel[..., :channels_out] = 0
    position = np.arange(2 * stride)
    line = 1 - np.abs(position + 0.5 - stride) / stride
    for channel in range(min(channels_out, channels_in)):
        kernel[:, :, channel, channel] = np.outer(line, line)
    return kernel.astype(np.float32)
