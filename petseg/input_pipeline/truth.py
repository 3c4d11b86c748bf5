"""What is known of a batch, on the device: its masks, the images' classes and objects' boxes.

Some images may be trained without their masks (TruthOptions.has_mask): the others' masks then have
to teach what an object looks like. Here, after the augmentation, and for images and cached
features alike.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf

from petseg.data.label_map import IGNORE, IMAGE_LABELS
from petseg.losses.base import Truth

IMAGE_CLASS = "image_class"  # in a batch: int64 [batch]


@dataclasses.dataclass(frozen=True)
class TruthOptions:
    """What is made of a batch's masks.

    Attributes:
      objects: Ids of the classes that objects consist of, around which boxes are drawn; () draws
        none.
      has_mask: For each class that an image may have, whether images of it are trained with their
        masks; () for all.
      fills_box: Images without masks are trained with the box of their object, filled with its
        class, the rest being background; otherwise all of their pixels are ignored.
      background: Id of the class around a filled box.
    """

    objects: tuple[int, ...] = ()
    has_mask: tuple[bool, ...] = ()
    fills_box: bool = False
    background: int = 0


def truth_of(batch: Mapping[str, tf.Tensor], options: TruthOptions) -> Truth:
    """The whole truth of a batch, as evaluations need it.

    Args:
      batch: `mask`, uint8 [batch, height, width]; IMAGE_CLASS and IMAGE_LABELS if the input gives
        them.
      options: Of these `objects` counts.
    """
    mask = batch["mask"]
    box = boxes_around(mask, options.objects) if options.objects else None
    return Truth(mask, batch.get(IMAGE_CLASS), box, batch.get(IMAGE_LABELS))


def withhold_masks(truth: Truth, options: TruthOptions) -> Truth:
    """The truth as training may know it: without the masks of some images.

    Args:
      truth: With the images' classes.
      options: See TruthOptions.
    """
    if not options.has_mask:
        return truth
    is_kept = tf.gather(tf.constant(options.has_mask), tf.maximum(truth.image_class, 0))
    if options.fills_box:
        instead = _fill_boxes(truth, options)
    else:
        instead = tf.fill(tf.shape(truth.mask), tf.constant(IGNORE, tf.uint8))
    return truth._replace(mask=tf.where(is_kept[:, None, None], truth.mask, instead))


def boxes_around(masks: tf.Tensor, objects: Sequence[int]) -> tf.Tensor:
    """The smallest boxes that hold all pixels of some classes.

    Args:
      masks: uint8 [batch, height, width], class ids or IGNORE.
      objects: Ids of the classes.

    Returns:
      float32 [batch, 4]: top, left, bottom, right, as shares of the height and of the width;
      all 0 for an image without such a pixel.
    """
    is_object = tf.reduce_any([masks == id_ for id_ in objects], 0)

    def range_along(has_object: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        length = tf.shape(has_object, tf.int64)[1]
        first = tf.argmax(tf.cast(has_object, tf.int32), 1)
        last = length - tf.argmax(tf.cast(has_object[:, ::-1], tf.int32), 1)
        end = tf.where(tf.reduce_any(has_object, 1), last, 0)
        return tuple(tf.cast(edge / length, tf.float32) for edge in (first, end))

    top, bottom = range_along(tf.reduce_any(is_object, 2))
    left, right = range_along(tf.reduce_any(is_object, 1))
    return tf.stack([top, left, bottom, right], 1)


def are_inside(boxes: tf.Tensor, sides: tf.Tensor) -> tf.Tensor:
    """Which pixels lie within a box.

    Args:
      boxes: float32 [batch, 4], from boxes_around.
      sides: int32 [2], height and width in pixels.

    Returns:
      bool [batch, height, width].
    """
    height, width = tf.unstack(tf.cast(sides, tf.float32))
    # Of a pixel its centre: a box ends between two pixels.
    y, x = (tf.range(height) + 0.5) / height, (tf.range(width) + 0.5) / width
    top, left, bottom, right = (edge[:, None] for edge in tf.unstack(boxes, axis=1))
    rows, columns = (y > top) & (y < bottom), (x > left) & (x < right)
    return rows[:, :, None] & columns[:, None, :]


def _fill_boxes(truth: Truth, options: TruthOptions) -> tf.Tensor:
    """Masks that know of their objects the boxes alone: uint8 [batch, height, width]."""
    (object_id,) = options.objects
    return tf.where(
        are_inside(truth.box, tf.shape(truth.mask)[1:]),
        tf.constant(object_id, tf.uint8),
        tf.constant(options.background, tf.uint8),
    )
