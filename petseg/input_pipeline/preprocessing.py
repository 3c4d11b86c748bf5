"""One record -> an image and its mask at the model's size."""

import numpy as np
import tensorflow as tf

from petseg.data import record
from petseg.data.label_map import IGNORE
from petseg.image_size import ImageSize, sides_of
from petseg.input_pipeline import resizing, windows
from petseg.input_pipeline.class_ids import to_class_ids
from petseg.input_pipeline.pictures import Pictures


def whole(
    serialized: tf.Tensor,
    class_ids: np.ndarray,
    size: ImageSize,
    keep_aspect: bool,
    is_mirrored: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """A record's whole image and its class ids, or their mirror image.

    Args:
      serialized: string [].
      class_ids: uint8 [256], raw mask value -> class id.
      size: Of the result, in pixels.
      keep_aspect: See resizing.resize_image.
      is_mirrored: Exchange left and right.

    Returns:
      uint8 [height, width, 3], RGB; uint8 [height, width].
    """
    fields = record.parse_record(serialized)
    mask = to_class_ids(tf.squeeze(record.decode_mask(fields[record.MASK]), -1), class_ids)
    image = record.decode_image(fields[record.IMAGE])
    _, columns = resizing.fitted(tf.shape(image)[0], tf.shape(image)[1], size, keep_aspect)
    image = resizing.resize_image(image, size, keep_aspect)
    mask = resizing.resize_mask(mask, size, keep_aspect)
    if not is_mirrored:
        return image, mask
    # What fills an image up stays on the right.
    return (
        resizing.fill_up(image[:, :columns][:, ::-1], size, 0),
        resizing.fill_up(mask[:, :columns][:, ::-1], size, IGNORE),
    )


def plan(
    fields: dict[str, tf.Tensor],
    drawn: tf.Tensor | None,
    keep_aspect: bool,
    size: ImageSize,
    pictures: Pictures,
) -> dict[str, tf.Tensor]:
    """Plans which part of each image is read, and at which reduction.

    Args:
      fields: From pictures.parse, [n] each.
      drawn: From windows.sample_windows; None for whole images.
      keep_aspect: See windows.place_windows.
      size: Of the result, in pixels.
      pictures: Where pixels come from.

    Returns:
      What `make` needs of each example, [n, ...].
    """
    height, width = (tf.cast(fields[name], tf.int32) for name in (record.HEIGHT, record.WIDTH))
    if drawn is None:
        placed = windows.whole_windows(height, width)
    else:
        placed = windows.place_windows(height, width, drawn, keep_aspect, size)
    reduction, placed = windows.choose_reductions(placed, size)
    return {
        **{key: fields[key] for key in pictures.carried},
        "window": placed,
        "reduction": reduction,
    }


def make(
    planned: dict[str, tf.Tensor],
    class_ids: np.ndarray,
    size: ImageSize,
    letterbox: bool,
    pictures: Pictures,
) -> dict[str, tf.Tensor]:
    """Makes an example as `plan` has it.

    Args:
      planned: One example of `plan`, and what was drawn for it: `flip` is applied here, all
        else is passed on.
      class_ids: uint8 [256], raw mask value -> class id.
      size: Of the result, in pixels.
      letterbox: Keep the aspect and fill the rest, as resizing.resize_image does.
      pictures: Where pixels come from.

    Returns:
      A dict of `image`, uint8 [height, width, 3], RGB; `mask`, uint8 [height, width]; and the
      rest of `planned`.
    """
    planned = dict(planned)
    window, reduction = planned.pop("window"), planned.pop("reduction")
    example = {key: planned.pop(key) for key in pictures.carried}
    sides = resizing.fitted(window[2], window[3], size, True) if letterbox else sides_of(size)
    image = windows.to_size(pictures.image_window(example, window, reduction), sides)
    rows = resizing.nearest(window[0], window[2], sides[0])
    columns = resizing.nearest(window[1], window[3], sides[1])
    if "flip" in planned:
        flip = planned.pop("flip")
        image = tf.cond(flip, lambda: tf.reverse(image, [1]), lambda: image)
        columns = tf.where(flip, tf.reverse(columns, [0]), columns)
    mask = to_class_ids(pictures.mask(example, rows, columns), class_ids)
    return {
        "image": resizing.fill_up(tf.ensure_shape(image, [None, None, 3]), size, 0),
        "mask": resizing.fill_up(mask, size, IGNORE),
        **planned,
    }
