"""Windows of an image: drawn, and decoded without the rest of it."""

import numpy as np
import tensorflow as tf

# libjpeg leaves out what is not wanted while it decodes, at these parts of the size.
_REDUCTIONS = (1, 2, 4, 8)


def sample_windows(min_area: float, max_aspect: float, count: int, seed: tf.Tensor) -> tf.Tensor:
    """Draws the windows of a batch before its images' sizes are known.

    All at once: drawing one by one takes a quarter of the time that decoding takes.

    Args:
      min_area: share of the image's area, above 0.
      max_aspect: at least 1; aspects lie between 1/max_aspect and it.
      count: how many.
      seed: int64 [2].

    Returns:
      float32 [count, 4]: area, uniform between min_area and 1; aspect, log-uniform; two
      places from 0 to below 1, uniform.
    """
    draws = tf.random.stateless_uniform([count, 4], seed)
    area = min_area + draws[:, 0] * (1.0 - min_area)
    aspect = tf.exp((2.0 * draws[:, 1] - 1.0) * np.float32(np.log(max_aspect)))
    return tf.stack([area, aspect, draws[:, 2], draws[:, 3]], 1)


def place_windows(
    heights: tf.Tensor, widths: tf.Tensor, drawn: tf.Tensor, keep_aspect: bool
) -> tf.Tensor:
    """Puts drawn windows into images. A side that would exceed the image is cut to it.

    Args:
      heights: int32 [n], pixels.
      widths: int32 [n], pixels.
      drawn: float32 [n, 4], of sample_windows.
      keep_aspect: whether the aspects drawn are in pixels, or relative to the image's.

    Returns:
      int32 [n, 4]: top, left, height, width, in pixels; never empty, always inside.
    """
    height, width = tf.cast(heights, tf.float32), tf.cast(widths, tf.float32)
    area, aspect, down, across = tf.unstack(drawn, axis=1)
    if keep_aspect:
        aspect *= height / width

    def side(share: tf.Tensor, full: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(tf.round(share * full), 1.0, full)

    rows, columns = side(tf.sqrt(area / aspect), height), side(tf.sqrt(area * aspect), width)

    def offset(draw: tf.Tensor, room: tf.Tensor) -> tf.Tensor:
        return tf.minimum(tf.floor(draw * (room + 1.0)), room)

    top, left = offset(down, height - rows), offset(across, width - columns)
    return tf.cast(tf.stack([top, left, rows, columns], 1), tf.int32)


def whole_windows(heights: tf.Tensor, widths: tf.Tensor) -> tf.Tensor:
    """The windows, int32 [n, 4], that show all of images of int32 [n] sides."""
    none = tf.zeros_like(heights)
    return tf.stack([none, none, heights, widths], 1)


def choose_reductions(windows: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """How much smaller each window may be decoded and still be no smaller than needed.

    Args:
      windows: int32 [n, 4].
      size: pixels that the window's sides are then brought to.

    Returns:
      int32 [n], places in (1, 1/2, 1/4, 1/8); the windows, their edges moved inwards to
      whole pixels of the smaller image.
    """
    shorter = tf.reduce_min(windows[:, 2:], axis=1)
    wanted = tf.stack([shorter >= factor * size for factor in _REDUCTIONS[1:]])
    level = tf.reduce_sum(tf.cast(wanted, tf.int32), axis=0)
    factor = tf.gather(tf.constant(_REDUCTIONS), level)[:, None]
    start = -(-windows[:, :2] // factor) * factor
    end = (windows[:, :2] + windows[:, 2:]) // factor * factor
    return level, tf.concat([start, end - start], 1)


def decode_window(
    encoded: tf.Tensor, window: tf.Tensor, level: tf.Tensor, sides: tuple[int, int] | tf.Tensor
) -> tf.Tensor:
    """Decodes the part of a JPEG that a window shows and brings it to a size, bilinear.

    A window of at least twice the size is decoded at 1/2, 1/4 or 1/8, which takes its
    pixels' means; so the last step never leaves out more than every second one.

    Args:
      encoded: string [], RGB JPEG.
      window: int32 [4], as choose_reductions gives it.
      level: int32 [], as choose_reductions gives it.
      sides: height and width in pixels.

    Returns:
      uint8 [height, width, 3].
    """

    def decode(factor: int) -> tf.Tensor:
        return tf.image.decode_and_crop_jpeg(
            encoded, window // factor, channels=3, ratio=factor, fancy_upscaling=False
        )

    pixels = tf.switch_case(level, [lambda f=factor: decode(f) for factor in _REDUCTIONS])
    return to_size(pixels, sides)


def to_size(pixels: tf.Tensor, sides: tuple[int, int] | tf.Tensor) -> tf.Tensor:
    """uint8 [height, width, channels] to other sides, bilinear without antialiasing."""
    resized = tf.raw_ops.ResizeBilinear(
        images=tf.expand_dims(pixels, 0), size=sides, half_pixel_centers=True
    )
    return tf.cast(tf.squeeze(resized, 0) + 0.5, tf.uint8)  # rounded: the cast cuts off


def sample_flips(count: int, seed: tf.Tensor) -> tf.Tensor:
    """Draws which of some examples are mirrored: bool [count], each with probability 1/2."""
    return tf.random.stateless_uniform([count], seed) < 0.5
