"""A head that tells an image's class and its object's box, and what masks may take from both.

Source: Hu, Dollar, He, Darrell and Girshick 2018, "Learning to segment every thing": the weights
that detect a class are turned into those that segment it, by a function that the classes with
masks have taught, so that classes without masks get weights, too.
"""

import keras
import numpy as np
import tensorflow as tf

from petseg.models.encoders.base import Level

SHARED, TRANSFER, SUMMED = "shared", "transfer", "summed"
NAME = "class_masks"
_HIDDEN = 256  # units between the weights that detect and those that segment
_SLOPE = 0.02  # of the leaky ReLU there
_CORNERS = 4


def build_class_masks(head: "ClassMasks", deepest: tuple, sides: tuple[int, int]) -> keras.Model:
    """The head as a model.

    Args:
      head: Its layer.
      deepest: Height, width and channels of the deepest features.
      sides: Height and width of the images in pixels.

    Returns:
      A model of the arguments and results of ClassMasks.call.
    """
    inputs = (
        keras.Input(deepest, name="deepest"),
        keras.Input((*sides, head.decoder_channels), dtype="float32", name="pixels"),
        keras.Input((), dtype="int64", name="image_class"),
    )
    return keras.Model(inputs, head(*inputs), name=NAME)


class ClassMasks(keras.layers.Layer):
    """Class and box of the image from its deepest features, and the logits of its pixels.

    All of it is computed in float32, whatever the precision.
    """

    def __init__(
        self,
        kind: str,
        level: Level,
        image_classes: int,
        num_classes: int,
        pixel_channels: int,
        seed: int,
    ):
        """Makes the weights.

        Args:
          kind: SHARED takes the decoder's logits as they are; TRANSFER computes them from its
            features, with weights of the image's class; SUMMED adds both.
          level: The deepest level that the decoder reads.
          image_classes: Classes that an image may have.
          num_classes: Logits of each pixel.
          pixel_channels: Features of each pixel, with TRANSFER and SUMMED.
          seed: Of the initial weights.
        """
        super().__init__(name=NAME, dtype="float32")
        self.kind = kind
        self._scale = float(level.scale)
        channels = level.channels
        self._image_classes, self._num_classes = image_classes, num_classes
        self._pixel_channels = pixel_channels

        def dense(units: int, name: str, stddev: float, number: int) -> keras.layers.Dense:
            initial = keras.initializers.RandomNormal(0.0, stddev, seed=seed + number)
            return keras.layers.Dense(units, kernel_initializer=initial, name=name)

        self._classify = dense(image_classes, "classify", 0.01, 0)
        self._locate = dense(image_classes * _CORNERS, "locate", 0.001, 1)
        with keras.name_scope(NAME):
            self._classify.build((None, channels))
            self._locate.build((None, channels))
            if kind != SHARED:
                inputs = (1 + _CORNERS) * channels
                self._hidden = dense(_HIDDEN, "hidden", inputs**-0.5, 2)
                self._weigh = dense(num_classes * (pixel_channels + 1), "weigh", 0.02, 3)
                self._hidden.build((None, inputs))
                self._weigh.build((None, _HIDDEN))
        self.built = True

    @property
    def decoder_channels(self) -> int:
        """How many channels the decoder has to give for each pixel."""
        logits = 0 if self.kind == TRANSFER else self._num_classes
        return logits + (0 if self.kind == SHARED else self._pixel_channels)

    def call(
        self, deepest: tf.Tensor, pixels: tf.Tensor, image_class: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Gives what an image and its pixels are.

        Args:
          deepest: Features of the deepest level, [batch, height, width, channels].
          pixels: What the decoder gives, float32 [batch, height, width, decoder_channels].
          image_class: int64 [batch], the images' classes where they are known (from 0); a
            negative number takes the one that is predicted.

        Returns:
          Logits of pixels, float32 [batch, height, width, classes]; logits of the image's class,
          float32 [batch, image classes]; boxes, float32 [batch, image classes, 4].
        """
        ops = keras.ops
        mean = ops.mean(ops.cast(deepest, "float32"), (1, 2)) / self._scale
        logits = self._classify(mean)
        boxes = ops.reshape(self._locate(mean), (-1, self._image_classes, _CORNERS))
        if self.kind == SHARED:
            return pixels, logits, boxes
        predicted = tf.argmax(logits, -1)  # Keras's own needs bit operations, which LiteRT lacks
        chosen = ops.where(image_class >= 0, image_class, predicted)
        one_hot = ops.one_hot(chosen, self._image_classes)
        weights = ops.matmul(one_hot, self._mask_weights())
        weights = ops.reshape(weights, (-1, self._pixel_channels + 1, self._num_classes))
        first = self.decoder_channels - self._pixel_channels
        features = pixels[..., first:]
        height, width = features.shape[1:3]
        flat = ops.reshape(features, (-1, height * width, self._pixel_channels))
        masks = ops.matmul(flat, weights[:, :-1]) + weights[:, -1:]
        masks = ops.reshape(masks, (-1, height, width, self._num_classes))
        if self.kind == SUMMED:
            masks = masks + pixels[..., :first]
        return masks, logits, boxes

    def _mask_weights(self) -> tf.Tensor:
        """For each class of an image what segments it: float32 [image classes, weights].

        No gradient flows back into the weights that detect.
        """
        ops, channels = keras.ops, self._classify.kernel.shape[0]
        located = ops.reshape(self._locate.kernel, (channels, self._image_classes, _CORNERS))
        located = ops.reshape(ops.transpose(located, (1, 2, 0)), (self._image_classes, -1))
        parts = [ops.transpose(ops.convert_to_tensor(self._classify.kernel)), located]
        # Each class by itself, so that none depends on which others there are.
        detecting = [ops.stop_gradient(part / _root_mean_square(part)) for part in parts]
        hidden = ops.leaky_relu(self._hidden(ops.concatenate(detecting, 1)), _SLOPE)
        return self._weigh(hidden)


def _root_mean_square(rows: tf.Tensor) -> tf.Tensor:
    squares = keras.ops.mean(keras.ops.square(rows), 1, keepdims=True)
    return keras.ops.sqrt(squares + np.float32(1e-12))
