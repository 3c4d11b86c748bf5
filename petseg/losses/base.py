"""What a loss is: a sum over pixels or images, so that it can be shared between replicas.

The trainer divides each sum by the number of valid pixels, or of images, in the *global*
batch. A mean per replica would weigh a pixel by how many its replica happens to hold.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import tensorflow as tf

from petseg.data.label_map import IGNORE


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
      takes_image_logits: whether `function` takes, in place of the pixels' logits, those of the
        presence head, float32 [batch, classes], and in place of class ids uint8 [batch, classes],
        whether each class is there: 1, 0 or IGNORE.
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
    takes_image_logits: bool = False

    def sum(
        self,
        logits: tf.Tensor,
        class_ids: tf.Tensor,
        teacher_logits: tf.Tensor | None = None,
        image_logits: tf.Tensor | None = None,
        image_labels: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """What `function` gives; other logits and labels go to the losses that take them."""
        if self.takes_image_logits:
            return self.function(image_logits, image_labels)
        if self.takes_teacher:
            return self.function(logits, class_ids, teacher_logits=teacher_logits)
        return self.function(logits, class_ids)


def count_valid_pixels(class_ids: tf.Tensor) -> tf.Tensor:
    """Counts the pixels that are not ignored.

    Args:
      class_ids: uint8, any shape, class ids or IGNORE.

    Returns:
      float32 [], exact up to 2^24 pixels.
    """
    return tf.cast(tf.math.count_nonzero(class_ids != IGNORE), tf.float32)
