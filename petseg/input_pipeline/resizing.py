"""Images and masks of any size -> the model's size."""

import tensorflow as tf

from petseg.data.label_map import IGNORE
from petseg.image_size import ImageSize, sides_of


def resize_image(image: tf.Tensor, size: ImageSize, keep_aspect: bool = False) -> tf.Tensor:
    """Brings a whole image to the model's size, bilinear with antialiasing.

    Args:
      image: uint8 [height, width, channels].
      size: Of the result, in pixels.
      keep_aspect: Fit the side that limits the scale and fill the rest with 0, below or to the
        right; otherwise fit both sides.

    Returns:
      uint8 [*sides_of(size), channels].
    """
    height, width = fitted(tf.shape(image)[0], tf.shape(image)[1], size, keep_aspect)
    resized = tf.image.resize(image, [height, width], antialias=True)
    return fill_up(tf.saturate_cast(tf.round(resized), tf.uint8), size, 0)


def resize_mask(mask: tf.Tensor, size: ImageSize, keep_aspect: bool = False) -> tf.Tensor:
    """Brings a mask to the model's size, nearest neighbour, as resize_image does.

    Args:
      mask: uint8 [height, width].
      size: Of the result, in pixels.
      keep_aspect: As in resize_image, but the rest is filled with IGNORE.

    Returns:
      uint8 [*sides_of(size)].
    """
    full_height, full_width = tf.shape(mask)[0], tf.shape(mask)[1]
    height, width = fitted(full_height, full_width, size, keep_aspect)
    rows, columns = nearest(0, full_height, height), nearest(0, full_width, width)
    return fill_up(sample(mask, rows, columns), size, IGNORE)


def resized_rows(
    values: tf.Tensor, height: tf.Tensor, width: tf.Tensor, first: tf.Tensor, count: tf.Tensor
) -> tf.Tensor:
    """Some rows of tf.image.resize(values, [height, width]), bilinear, without the others.

    Args:
      values: float32 [rows, columns, channels].
      height: int32 [], of the whole result, in pixels.
      width: int32 [], in pixels.
      first: int32 [], the first row that is wanted.
      count: int32 [], the number of rows that are wanted.

    Returns:
      float32 [count, width, channels].
    """

    def some() -> tf.Tensor:
        scale = tf.cast(tf.shape(values)[0], tf.float32) / tf.cast(height, tf.float32)
        centre = (tf.cast(tf.range(first, first + count), tf.float32) + 0.5) * scale - 0.5
        above = tf.maximum(tf.cast(tf.floor(centre), tf.int32), 0)
        below = tf.minimum(tf.cast(tf.math.ceil(centre), tf.int32), tf.shape(values)[0] - 1)
        share = (centre - tf.floor(centre))[:, None, None]
        needed = values[above[0] : below[-1] + 1]
        wide = tf.image.resize(needed, [tf.shape(needed)[0], width])
        upper, lower = (tf.gather(wide, rows - above[0]) for rows in (above, below))
        return upper + (lower - upper) * share

    # The same values; all rows at once are faster.
    return tf.cond(count == height, lambda: tf.image.resize(values, [height, width]), some)


def fitted(
    height: tf.Tensor, width: tf.Tensor, size: ImageSize, keep_aspect: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width, int32, that an image gets within a size, from its int32 sides."""
    full_height, full_width = sides_of(size)
    if not keep_aspect:
        return tf.fill(tf.shape(height), full_height), tf.fill(tf.shape(width), full_width)
    # The side that limits the scale, and what it becomes.
    is_high = height * full_width >= width * full_height
    limit, fits = tf.where(is_high, height, width), tf.where(is_high, full_height, full_width)
    # Rounded to the nearest pixel, in whole numbers.
    return tuple(
        tf.maximum((2 * side * fits + limit) // (2 * limit), 1) for side in (height, width)
    )


def nearest(start: tf.Tensor, length: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
    """The pixels, int32 [count], nearest to the centres of `count` equal parts of a range."""
    centres = 2 * tf.range(count) + 1
    return start + centres * length // (2 * count)


def sample(mask: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Picks rows and columns of a mask: [height, width] -> [rows, columns]."""
    # Gathering single bytes along the last axis takes three times as long.
    return tf.transpose(tf.gather(tf.transpose(tf.gather(mask, rows)), columns))


def fill_up(picture: tf.Tensor, size: ImageSize, value: int) -> tf.Tensor:
    """Adds a constant below and to the right, up to a size: [height, width, ...] -> the same."""
    sides = sides_of(size)
    if picture.shape[:2] == sides:
        return picture
    lacking = sides - tf.shape(picture)[:2]
    padding = [[0, lacking[0]], [0, lacking[1]]] + [[0, 0]] * (picture.shape.rank - 2)
    padded = tf.pad(picture, padding, constant_values=tf.cast(value, picture.dtype))
    return tf.ensure_shape(padded, [*sides, *picture.shape[2:]])
