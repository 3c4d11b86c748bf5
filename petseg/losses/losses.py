"""Losses whose value does not depend on how a batch is spread over replicas."""

import functools
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf

from petseg.data.label_map import IGNORE

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

_SMOOTHING_PIXELS = 1.0
_NEAR_PX = 7  # the width of a band that reaches three pixels to either side
# What a false positive and a false negative weigh in Tversky's index.
_FALSE_POSITIVE, _FALSE_NEGATIVE = 0.3, 0.7


def cross_entropy_sum(
    logits: tf.Tensor,
    class_ids: tf.Tensor,
    class_weights: Sequence[float] = (),
    label_smoothing: float = 0.0,
) -> tf.Tensor:
    """The cross-entropy summed over all pixels that are not ignored.

    Divide by the number of such pixels in the *global* batch: a mean per replica
    would weigh a pixel by how many its replica happens to hold.

    Args:
      logits: float32 [batch, height, width, classes].
      class_ids: uint8 [batch, height, width], class ids or IGNORE.
      class_weights: what a pixel weighs, by its class; empty for 1.
      label_smoothing: share of the truth that is spread evenly over all classes (Szegedy et
        al. 2016), at least 0 and below 1.

    Returns:
      float32 [], in nats; 0 if every pixel is ignored.
    """
    shifted, exponentials = _class_planes(logits)
    # An ignored pixel is of no class, so its plane is 0 in `truth` already.
    truth, counted = _truth_planes(class_ids, logits), _valid(class_ids, logits.dtype)
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
    """Cross-entropy of the pixels near to another class alone, summed over them.

    Near is within 3 rows and columns; ignored pixels are of no class. Divide by the number of
    valid pixels in the global batch: so 'cross_entropy+2*boundary_cross_entropy' weighs what
    lies along borders three times. Arguments and result as of cross_entropy_sum.
    """
    ids, valid = tf.cast(class_ids, tf.float32)[..., None], (class_ids != IGNORE)[..., None]

    def highest(values: tf.Tensor) -> tf.Tensor:
        values = tf.where(valid, values, tf.float32.min)
        for sides in ((_NEAR_PX, 1), (1, _NEAR_PX)):
            values = tf.nn.max_pool2d(values, sides, 1, "SAME")
        return values

    is_near = (highest(ids) != -highest(-ids))[..., 0]
    near = tf.where(is_near, class_ids, tf.constant(IGNORE, class_ids.dtype))
    return cross_entropy_sum(logits, near, class_weights, label_smoothing)


def dice_loss_sum(logits: tf.Tensor, class_ids: tf.Tensor) -> tf.Tensor:
    """One minus soft Dice of each image, averaged over classes, summed over images.

    Taken per image, so that it needs no sums over replicas (Milletari et al. 2016,
    with probabilities unsquared). Divide by the number of images in the global batch.

    Args:
      logits: float32 [batch, height, width, classes].
      class_ids: uint8 [batch, height, width], class ids or IGNORE.

    Returns:
      float32 [], from 0 to batch; an image whose pixels are all ignored adds 0.
    """
    overlap, given, true = _areas(logits, class_ids)
    dice = (2 * overlap + _SMOOTHING_PIXELS) / (given + true + _SMOOTHING_PIXELS)
    return tf.reduce_sum(1 - tf.reduce_mean(dice, axis=0))


def generalised_dice_loss_sum(logits: tf.Tensor, class_ids: tf.Tensor) -> tf.Tensor:
    """One minus generalised Dice of each image, summed over images.

    Classes weigh the inverse square of their area in the image (Sudre et al. 2017); those
    that the image does not hold, nothing. Arguments as of dice_loss_sum.

    Returns:
      float32 [], from 0 to batch; an image whose pixels are all ignored adds 0.
    """
    overlap, given, true = _areas(logits, class_ids)
    weights = tf.math.divide_no_nan(tf.ones_like(true), tf.square(true))
    total = tf.reduce_sum(weights * (given + true), 0)
    dice = tf.math.divide_no_nan(2 * tf.reduce_sum(weights * overlap, 0), total)
    return tf.reduce_sum(tf.where(total > 0, 1 - dice, tf.zeros_like(dice)))


def tversky_loss_sum(logits: tf.Tensor, class_ids: tf.Tensor) -> tf.Tensor:
    """One minus Tversky's index of each image, averaged over classes, summed over images.

    As Dice, but what is missed weighs 0.7 and what is too much 0.3 (Salehi et al. 2017).
    Arguments as of dice_loss_sum.

    Returns:
      float32 [], from 0 to batch; an image whose pixels are all ignored adds 0.
    """
    overlap, given, true = _areas(logits, class_ids)
    wrong = _FALSE_POSITIVE * (given - overlap) + _FALSE_NEGATIVE * (true - overlap)
    index = (overlap + _SMOOTHING_PIXELS) / (overlap + wrong + _SMOOTHING_PIXELS)
    return tf.reduce_sum(1 - tf.reduce_mean(index, axis=0))


def focal_loss_sum(logits: tf.Tensor, class_ids: tf.Tensor) -> tf.Tensor:
    """Cross-entropy times the square of what is lacking to certainty, summed over pixels.

    Divide by the number of valid pixels in the global batch. (Lin et al. 2017, gamma 2.)
    Arguments as of cross_entropy_sum.

    Returns:
      float32 [], in nats; 0 if every pixel is ignored.
    """
    shifted, exponentials = _class_planes(logits)
    truth, sums = _truth_planes(class_ids, logits), tf.reduce_sum(exponentials, 0)
    valid = _valid(class_ids, logits.dtype)
    lacking = valid - tf.reduce_sum(truth * exponentials, 0) / sums
    entropy = tf.math.log(sums) * valid - tf.reduce_sum(shifted * truth, 0)
    return tf.reduce_sum(tf.square(lacking) * entropy)


def lovasz_softmax_loss_sum(logits: tf.Tensor, class_ids: tf.Tensor) -> tf.Tensor:
    """The Lovasz extension of one minus IoU of each image, summed over images.

    Averaged over the classes that the image holds (Berman et al. 2018). It sorts the pixels
    of each class. Arguments as of dice_loss_sum.

    Returns:
      float32 [], from 0 to batch; an image whose pixels are all ignored adds 0.
    """
    _, exponentials = _class_planes(logits)
    truth, valid = _truth_planes(class_ids, logits), _valid(class_ids, logits.dtype)
    errors = tf.abs(truth - exponentials / tf.reduce_sum(exponentials, 0)) * valid

    shape = tf.shape(truth)
    counted = tf.broadcast_to(valid, shape)
    errors, truth, counted = (
        tf.reshape(planes, [shape[0], shape[1], shape[2] * shape[3]])
        for planes in (errors, truth, counted)
    )
    # Ignored pixels have no error and add to no area: their places do not matter.
    order = tf.argsort(errors, direction="DESCENDING")
    errors, truth, counted = (
        tf.gather(planes, order, batch_dims=2) for planes in (errors, truth, counted)
    )
    area = tf.reduce_sum(truth, -1, keepdims=True)
    left = area - tf.cumsum(truth, -1)
    union = area + tf.cumsum(counted - truth, -1)
    loss_of_set = 1 - tf.math.divide_no_nan(left, union)
    before = tf.concat([tf.zeros_like(area), loss_of_set[..., :-1]], -1)
    of_class = tf.reduce_sum(errors * tf.stop_gradient(loss_of_set - before), -1)
    present = tf.cast(area[..., 0] > 0, logits.dtype)
    of_image = tf.reduce_sum(of_class * present, 0)
    return tf.reduce_sum(tf.math.divide_no_nan(of_image, tf.reduce_sum(present, 0)))


# By name: the function, and whether its sum is one over pixels, not over images.
TERMS = {
    "cross_entropy": (cross_entropy_sum, True),
    "boundary_cross_entropy": (boundary_cross_entropy_sum, True),
    "focal": (focal_loss_sum, True),
    "dice": (dice_loss_sum, False),
    "generalised_dice": (generalised_dice_loss_sum, False),
    "tversky": (tversky_loss_sum, False),
    "lovasz_softmax": (lovasz_softmax_loss_sum, False),
}


def choose(
    names: Iterable[str], class_weights: Sequence[float], label_smoothing: float
) -> list[tuple[Loss, bool]]:
    """The terms of these names; weights and smoothing are those of the cross-entropies."""
    chosen = []
    for name in names:
        loss, is_of_pixels = TERMS[name]
        if loss in (cross_entropy_sum, boundary_cross_entropy_sum):
            loss = functools.partial(
                loss, class_weights=class_weights, label_smoothing=label_smoothing
            )
        chosen.append((loss, is_of_pixels))
    return chosen


def gain_by_fusing(names: Iterable[str]) -> bool:
    """Whether XLA's one pass over the pixels is faster; its sorting and pooling are slow."""
    return not {"lovasz_softmax", "boundary_cross_entropy"} & set(names)


def count_valid_pixels(class_ids: tf.Tensor) -> tf.Tensor:
    """How many pixels are not ignored: float32 [], exact to 2^24 of them."""
    return tf.cast(tf.math.count_nonzero(class_ids != IGNORE), tf.float32)


def _areas(logits: tf.Tensor, class_ids: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Of each class and image, [classes, batch], in pixels that count.

    Returns:
      The sum of probabilities where they belong, of all probabilities, and of the truth.
    """
    _, exponentials = _class_planes(logits)
    truth = _truth_planes(class_ids, logits)
    scales = _valid(class_ids, logits.dtype) / tf.reduce_sum(exponentials, 0)
    probabilities = exponentials * scales
    return tuple(
        tf.reduce_sum(planes, axis=[2, 3])
        for planes in (probabilities * truth, probabilities, truth)
    )


def _class_planes(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Logits less their largest, and their exponentials: [classes, batch, height, width].

    With few classes, arithmetic over planes takes a quarter of the time that it takes over
    a last axis of 2 or 3. Losses that both ask for them share them: the graph optimizer
    computes equal nodes once.
    """
    planes = tf.transpose(logits, [3, 0, 1, 2])
    shifted = planes - tf.stop_gradient(tf.reduce_max(planes, 0))
    return shifted, tf.exp(shifted)


def _truth_planes(class_ids: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """1 where a pixel is of a class: [classes, batch, height, width] of the logits' type."""
    classes = tf.constant(np.arange(logits.shape[-1]), class_ids.dtype)
    return tf.cast(class_ids[None] == classes[:, None, None, None], logits.dtype)


def _valid(class_ids: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    return tf.cast(class_ids != IGNORE, dtype)
