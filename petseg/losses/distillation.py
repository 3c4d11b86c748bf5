"""Distillation: a student's logits follow a teacher's (Hinton et al. 2015).

Source: "Distilling the Knowledge in a Neural Network".
"""

import tensorflow as tf

from petseg.losses.base import Loss
from petseg.losses.planes import class_planes, valid_plane


def distillation_sum(
    logits: tf.Tensor,
    class_ids: tf.Tensor,
    teacher_logits: tf.Tensor,
    temperature: float = 1.0,
) -> tf.Tensor:
    """KL divergence from the teacher's to the student's softened probabilities, over pixels.

    Both logits are divided by the temperature, and the divergence is multiplied by its square,
    so that gradients stay as large whatever the temperature is.

    Args:
      logits: float32 [batch, height, width, classes], the student's.
      class_ids: uint8 [batch, height, width], class ids or IGNORE.
      teacher_logits: float32 [batch, height, width, classes]; no gradient goes there.
      temperature: Above 0; the higher it is, the more even are the probabilities.

    Returns:
      float32 [], in nats times temperature squared, summed over the pixels that are not ignored.
    """
    shifted, exponentials = class_planes(logits / temperature)
    teacher_shifted, teacher_exponentials = class_planes(
        tf.stop_gradient(teacher_logits) / temperature
    )
    sums, teacher_sums = tf.reduce_sum(exponentials, 0), tf.reduce_sum(teacher_exponentials, 0)
    truth = teacher_exponentials / teacher_sums
    # The logarithm of each probability is its shifted logit less that of the sum.
    divergence = tf.reduce_sum(truth * (teacher_shifted - shifted), 0)
    divergence += tf.math.log(sums) - tf.math.log(teacher_sums)
    valid = valid_plane(class_ids, logits.dtype)
    return temperature**2 * tf.reduce_sum(divergence * valid)


DISTILLATION = Loss(distillation_sum, "pixel", takes_teacher=True)
