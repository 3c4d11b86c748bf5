"""What makes training faster on CPUs alone; on GPUs none of it is used."""

import dataclasses
import math
from typing import Any

import keras
import tensorflow as tf

from petseg.image_size import ImageSize, sides_of
from petseg.models.segmentation_model import SegmentationModel

# Seconds per image of 224 px with gradients, from 32 channels to 3: at stride 8, 0.9 ms by
# matrix multiplication against 2.1 ms; at stride 4 the same; at stride 2 slower.
_LEAST_STRIDE = 8
# Compiling with XLA takes half a second, and saves 0.4 ms an image of 224 px.
_LEAST_PIXELS = 2e8


def upsample_by_matmul(model: SegmentationModel) -> SegmentationModel:
    """The same model, with the same variables, whose decoder upsamples by matrix multiplication.

    It is used for training; what is saved and exported is the model itself, made of Keras's
    layers. Transpose convolutions like those of layers.upsampling, of a stride of at least 8, are
    computed so.
    """

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> keras.KerasTensor:  # noqa: ANN401
        if _can_multiply(layer):
            layer = _UpsampleByMatmul(layer)
        return layer(*args, **kwargs)

    decoder = keras.models.clone_model(
        model.decoder, clone_function=lambda layer: layer, call_function=call
    )
    return dataclasses.replace(model, decoder=decoder)


def _can_multiply(layer: keras.Layer) -> bool:
    """Whether conv2d_transpose_by_matmul computes what a layer does, and faster."""
    if not isinstance(layer, keras.layers.Conv2DTranspose):
        return False
    stride = layer.strides[0]
    return (
        stride >= _LEAST_STRIDE
        and stride % 2 == 0
        and layer.strides == (stride, stride)
        and layer.kernel_size == (2 * stride, 2 * stride)
        and layer.dilation_rate == (1, 1)
        and layer.padding == "same"
        and layer.data_format == "channels_last"
        and not layer.use_bias
        and layer.activation is keras.activations.linear
    )


def is_worth_compiling(images: int, image_size: ImageSize) -> bool:
    """Whether so many images of that size win back the time that XLA compiles."""
    return images * math.prod(sides_of(image_size)) > _LEAST_PIXELS


def conv2d_transpose_by_matmul(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """tf.nn.conv2d_transpose with a kernel of twice the stride and padding 'SAME'.

    A square of stride x stride pixels that lies between four pixels of x depends on these four
    alone, so all squares are one product of matrices.

    Args:
      x: float [batch, height, width, channels_in].
      kernel: float [2 stride, 2 stride, channels_out, channels_in]; the stride is even.

    Returns:
      float [batch, height stride, width stride, channels_out].
    """
    _, height, width, channels_in = x.shape
    stride, channels_out = kernel.shape[0] // 2, kernel.shape[2]
    # The last half of the kernel's rows reaches from a pixel of x to the squares below it.
    halves = tf.reshape(kernel, [2, stride, 2, stride, channels_out, channels_in])[::-1, :, ::-1]
    weights = tf.transpose(halves, [0, 2, 5, 1, 3, 4])
    # tf.slice, as the gradient of a strided slice takes three times as long.
    padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
    corners = [
        tf.slice(padded, [0, row, column, 0], [-1, height + 1, width + 1, -1])
        for row in (0, 1)
        for column in (0, 1)
    ]
    squares = tf.matmul(
        tf.reshape(tf.concat(corners, -1), [-1, 4 * channels_in]),
        tf.reshape(weights, [4 * channels_in, stride * stride * channels_out]),
    )
    squares = tf.reshape(squares, [-1, height + 1, width + 1, stride, stride * channels_out])
    rows = tf.transpose(squares, [0, 1, 3, 2, 4])
    pixels = tf.reshape(rows, [-1, (height + 1) * stride, (width + 1) * stride, channels_out])
    begin = [0, stride // 2, stride // 2, 0]
    return tf.slice(pixels, begin, [-1, height * stride, width * stride, -1])


class _UpsampleByMatmul(keras.layers.Layer):
    """Computes another layer's transpose convolution with its kernel."""

    def __init__(self, layer: keras.layers.Conv2DTranspose) -> None:
        super().__init__(name=f"{layer.name}_by_matmul", dtype=layer.dtype_policy)
        self.layer = layer

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return conv2d_transpose_by_matmul(x, tf.convert_to_tensor(self.layer.kernel))

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return self.layer.compute_output_shape(shape)
