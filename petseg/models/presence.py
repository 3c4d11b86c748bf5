"""Whether an image holds a class: a head beside the decoder, and what its logits suppress.

Source: the competition "Ultrasound Nerve Segmentation" (2016), half of whose images hold no
nerve; a mask that is predicted there costs the whole score of the image.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from petseg.models.encoders.base import Level

_NAME = "presence"
# Added to the logits of a class that is suppressed: finite, as every class of a pixel may be, and
# exact in float32 beside any logit of a trained model.
_SUPPRESSED = -1e4


def build_presence_head(level: Level, shape: tuple[int, int, int], classes: int) -> keras.Model:
    """The mean of the deepest features over the image, and a dense layer.

    It starts with zeros, so that every class is first as probable as not.

    Args:
      level: The deepest level that the decoder reads.
      shape: Height, width and channels of its features.
      classes: Of the label map.

    Returns:
      A model: features [batch, *shape] -> logits, float32 [batch, classes], whether the image
      holds each class (several may be there; the sigmoid of a logit is a probability).
    """
    features = keras.Input(shape, name=level.stage)
    scaled = keras.layers.Rescaling(1 / level.scale, name=f"{_NAME}_scale")(features)
    # In float32 whatever the precision: a mean over many values.
    mean = keras.layers.GlobalAveragePooling2D(dtype="float32", name=f"{_NAME}_mean")(scaled)
    logits = keras.layers.Dense(classes, kernel_initializer="zeros", dtype="float32", name=_NAME)(
        mean
    )
    return keras.Model(features, logits, name=_NAME)


def suppress_absent(
    pixels: keras.KerasTensor | tf.Tensor,
    image: keras.KerasTensor | tf.Tensor,
    thresholds: Sequence[float],
) -> keras.KerasTensor | tf.Tensor:
    """Takes the classes that an image does not hold from all of its pixels.

    Where all would be taken, none is.

    Args:
      pixels: Logits, float32 [batch, height, width, classes].
      image: Logits of presence, float32 [batch, classes].
      thresholds: For each class the probability of presence from which on it is there; 0 for
        classes that are never suppressed.

    Returns:
      Logits, float32 [batch, height, width, classes].
    """
    ops = keras.ops
    # As an array: a tensor of here would become an input of an exported graph.
    is_absent = ops.less(ops.sigmoid(image), np.array(thresholds, np.float32))
    is_suppressed = ops.logical_and(is_absent, ops.logical_not(ops.all(is_absent, -1, True)))
    added = ops.cast(is_suppressed, "float32") * _SUPPRESSED
    return pixels + ops.reshape(added, (-1, 1, 1, len(thresholds)))
