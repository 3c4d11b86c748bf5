"""What a loss is: a sum over pixels or images, so that it can be shared between replicas.

The trainer divides each sum by the number of valid pixels, or of images, in the *global*
batch. A mean per replica would weigh a pixel by how many its replica happens to hold.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import tensorflow as tf

from petseg.data.label_map import IGNORE


class Outputs(NamedTuple):
    """What a model gives for a batch.

    Attributes:
      pixels: Logits of each pixel's class, float32 [batch, height, width, classes].
      presence: Logits of each class being anywhere in the image, float32 [batch, classes]; None
        without a presence head.
      image_class: Logits of the image's own class, float32 [batch, image classes]; None without
        a head for it, as is `boxes`.
      boxes: For each class that the image may have, where its object would be: float32 [batch,
        image classes, 4], top, left, bottom and right as shares of the image's sides.
    """

    pixels: tf.Tensor
    presence: tf.Tensor | None = None
    image_class: tf.Tensor | None = None
    boxes: tf.Tensor | None = None


class Truth(NamedTuple):
    """What is known of a batch.

    Attributes:
      mask: uint8 [batch, height, width], class ids, or IGNORE where a pixel does not count.
      image_class: int64 [batch], the class of each image, or UNKNOWN_CLASS; None if no image's is
        known.
      box: float32 [batch, 4], the box around an image's object, as Outputs.boxes has it; all 0
        where there is none; None if boxes are not drawn.
      image_labels: uint8 [batch, classes], whether each class is in an image: 1, 0 or IGNORE; None
        if only the mask says it (see presence.labels_of_masks).
    """

    mask: tf.Tensor
    image_class: tf.Tensor | None = None
    box: tf.Tensor | None = None
    image_labels: tf.Tensor | None = None


UNKNOWN_CLASS = -1  # of an image


@dataclasses.dataclass(frozen=True)
class Loss:
    """One loss, as `petseg.registry.LOSSES` holds it.

    Attributes:
      function: float32 logits [batch, height, width, classes] and uint8 class ids [batch,
        height, width] (IGNORE where a pixel does not count) -> float32 [], the sum over the
        batch; 0 if every pixel is ignored.
      summed_over: "pixel" or "image": what the sum is divided by the number of in the global
        batch.
      takes_teacher: whether `function` also takes the keyword arguments teacher_logits (float32,
        of the logits' shape) and temperature (above 0).
      reads: What `function` takes in place of the two arguments above: "pixels" takes them;
        "presence" takes Outputs.presence and Truth.image_labels; "detection" takes Outputs and
        Truth, for what they say of the image's class and box.
      takes_class_weights: whether `function` also takes the keyword arguments class_weights
        (one float per class, empty for 1) and label_smoothing (from 0 to below 1).
      is_faster_fused: whether XLA's fusion makes it faster on CPUs. XLA sorts and pools
        slowly there.
    """

    function: Callable[..., tf.Tensor]
    summed_over: Literal["pixel", "image"]
    takes_class_weights: bool = False
    is_faster_fused: bool = True
    takes_teacher: bool = False
    reads: Literal["pixels", "presence", "detection"] = "pixels"

    def sum(
        self, outputs: Outputs, truth: Truth, teacher_logits: tf.Tensor | None = None
    ) -> tf.Tensor:
        """What `function` gives; each takes what it reads."""
        if self.reads == "presence":
            return self.function(outputs.presence, truth.image_labels)
        if self.reads == "detection":
            return self.function(outputs, truth)
        if self.takes_teacher:
            return self.function(outputs.pixels, truth.mask, teacher_logits=teacher_logits)
        return self.function(outputs.pixels, truth.mask)


def count_valid_pixels(class_ids: tf.Tensor) -> tf.Tensor:
    """Counts the pixels that are not ignored.

    Args:
      class_ids: uint8, any shape, class ids or IGNORE.

    Returns:
      float32 [], exact up to 2^24 pixels.
    """
    return tf.cast(tf.math.count_nonzero(class_ids != IGNORE), tf.float32)
