"""Cross-entropy, over all pixels or only near the boundaries between classes."""

from collections.abc import Sequence

import tensorflow as tf

from petseg.data.label_map import IGNORE
from petseg.losses.base import Loss
from petseg.losses.planes import class_planes, truth_planes, valid_plane

_BOUNDARY_WINDOW_PX = 7  # reaches three pixels to either side


def cross_entropy_sum(
    logits: tf.Tensor,
    class_ids: tf.Tensor,
    class_weights: Sequence[float] = (),
    label_smoothing: float = 0.0,
) -> tf.Tensor:
    """Cross-entropy, summed over all pixels that are not ignored.

    Args:
      logits: float32 [batch, height, width, classes].
      class_ids: uint8 [batch, height, width], class ids or IGNORE.
      class_weights: weight of a pixel by its class; empty for 1.
      label_smoothing: share of the truth that is spread evenly over all classes, at least 0
        and below 1 (Szegedy et al. 2016, "Rethinking the Inception Architecture").

    Returns:
      float32 [], in nats; 0 if every pixel is ignored.
    """
    shifted, exponentials = class_planes(logits)
    # An ignored pixel has no class, so all of its planes in `truth` are 0 already.
    truth, counted = truth_planes(class_ids, logits), valid_plane(class_ids, logits.dtype)
    if class_weights:
        weights = tf.constant(class_weights, logits.dtype)
        truth *= weights[:, None, None, None]
        counted = tf.reduce_sum(truth, 0)
    if label_smoothing:
        truth = (1 - label_smoothing) * truth + label_smoothing / logits.shape[-1] * counted
    log_sums = tf.math.log(tf.reduce_sum(exponentials, 0)) * counted
    return tf.reduce_sum(log_sums) - tf.reduce_sum(shifted * truth)


def boundary_cross_entropy_sum(
    logits: tf.Tensor,
    class_ids: tf.Tensor,
    class_weights: Sequence[float] = (),
    label_smoothing: float = 0.0,
) -> tf.Tensor:
    """Cross-entropy of the pixels near another class, summed over them.

    Near means within 3 rows and columns; ignored pixels have no class. It is divided by the
    number of all valid pixels, so 'cross_entropy+2*boundary_cross_entropy' weighs pixels near
    boundaries three times as much as others. Arguments and result are those of
    cross_entropy_sum.
    """
    ids, valid = tf.cast(class_ids, tf.float32)[..., None], (class_ids != IGNORE)[..., None]

    def highest(values: tf.Tensor) -> tf.Tensor:
        values = tf.where(valid, values, tf.float32.min)
        for sides in ((_BOUNDARY_WINDOW_PX, 1), (1, _BOUNDARY_WINDOW_PX)):
            values = tf.nn.max_pool2d(values, sides, 1, "SAME")
        return values

    is_near = (highest(ids) != -highest(-ids))[..., 0]
    near = tf.where(is_near, class_ids, tf.constant(IGNORE, class_ids.dtype))
    return cross_entropy_sum(logits, near, class_weights, label_smoothing)


CROSS_ENTROPY = Loss(cross_entropy_sum, "pixel", takes_class_weights=True)
BOUNDARY_CROSS_ENTROPY = Loss(
    boundary_cross_entropy_sum, "pixel", takes_class_weights=True, is_faster_fused=False
)
