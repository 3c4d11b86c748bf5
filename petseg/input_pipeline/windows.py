"""Random windows of images: drawn, and decoded without the rest of the image."""

import numpy as np
import tensorflow as tf

from petseg.image_size import ImageSize, sides_of

# libjpeg can decode to 1, 1/2, 1/4 and 1/8 of the size, which takes less time.
REDUCTIONS = (1, 2, 4, 8)


def sample_windows(min_area: float, max_aspect: float, count: int, seed: tf.Tensor) -> tf.Tensor:
    """Draws the windows of a batch before its images' sizes are known.

    All at once: drawing them one by one takes a quarter of the time that decoding takes.

    Args:
      min_area: Smallest share of the image's area, above 0.
      max_aspect: At least 1; aspects lie between 1/max_aspect and max_aspect.
      count: Number of windows.
      seed: int64 [2].

    Returns:
      float32 [count, 4]: area, uniform between min_area and 1; aspect, log-uniform; and
      the vertical and the horizontal position, uniform from 0 to below 1.
    """
    draws = tf.random.stateless_uniform([count, 4], seed)
    area = min_area + draws[:, 0] * (1.0 - min_area)
    aspect = tf.exp((2.0 * draws[:, 1] - 1.0) * np.float32(np.log(max_aspect)))
    return tf.stack([area, aspect, draws[:, 2], draws[:, 3]], 1)


def place_windows(
    heights: tf.Tensor,
    widths: tf.Tensor,
    drawn: tf.Tensor,
    keep_aspect: bool,
    size: ImageSize,
) -> tf.Tensor:
    """Places drawn windows in images; a side that would exceed the image is cut to it.

    Args:
      heights: int32 [n], pixels.
      widths: int32 [n], pixels.
      drawn: float32 [n, 4], from sample_windows.
      keep_aspect: Whether the drawn aspects are relative to that of `size`, or to the image's.
      size: Of the model's input, in pixels.

    Returns:
      int32 [n, 4]: top, left, height, width, in pixels; never empty, always inside.
    """
    height, width = tf.cast(heights, tf.float32), tf.cast(widths, tf.float32)
    area, aspect, down, across = tf.unstack(drawn, axis=1)
    if keep_aspect:
        rows, columns = sides_of(size)
        aspect *= height / width * (columns / rows)

    def side(share: tf.Tensor, full: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(tf.round(share * full), 1.0, full)

    rows, columns = side(tf.sqrt(area / aspect), height), side(tf.sqrt(area * aspect), width)

    def offset(draw: tf.Tensor, most: tf.Tensor) -> tf.Tensor:
        return tf.minimum(tf.floor(draw * (most + 1.0)), most)

    top, left = offset(down, height - rows), offset(across, width - columns)
    return tf.cast(tf.stack([top, left, rows, columns], 1), tf.int32)


def whole_windows(heights: tf.Tensor, widths: tf.Tensor) -> tf.Tensor:
    """The windows, int32 [n, 4], that cover whole images with int32 [n] sides."""
    none = tf.zeros_like(heights)
    return tf.stack([none, none, heights, widths], 1)


def choose_reductions(windows: tf.Tensor, size: ImageSize) -> tuple[tf.Tensor, tf.Tensor]:
    """Chooses how much smaller each window is decoded, yet no smaller than needed.

    Args:
      windows: int32 [n, 4].
      size: What the window is then resized to, in pixels.

    Returns:
      int32 [n], indices into (1, 1/2, 1/4, 1/8); the windows, their edges moved inwards to
      whole pixels of the smaller image.
    """
    needed = tf.constant(sides_of(size))
    wanted = tf.stack(
        [tf.reduce_all(windows[:, 2:] >= factor * needed, axis=1) for factor in REDUCTIONS[1:]]
    )
    reduction = tf.reduce_sum(tf.cast(wanted, tf.int32), axis=0)
    factor = tf.gather(tf.constant(REDUCTIONS), reduction)[:, None]
    start = -(-windows[:, :2] // factor) * factor
    end = (windows[:, :2] + windows[:, 2:]) // factor * factor
    return reduction, tf.concat([start, end - start], 1)


def decode_window(encoded: tf.Tensor, window: tf.Tensor, reduction: tf.Tensor) -> tf.Tensor:
    """Decodes the part of a JPEG within a window.

    A window of at least twice the size is decoded at 1/2, 1/4 or 1/8, which averages pixels;
    so resizing never skips more than every second one.

    Args:
      encoded: string [], RGB JPEG.
      window: int32 [4], from choose_reductions.
      reduction: int32 [], from choose_reductions.

    Returns:
      uint8 [height, width, 3].
    """

    def decode(factor: int) -> tf.Tensor:
        return tf.image.decode_and_crop_jpeg(
            encoded, window // factor, channels=3, ratio=factor, fancy_upscaling=False
        )

    return tf.switch_case(reduction, [lambda f=factor: decode(f) for factor in REDUCTIONS])


def reduce(pixels: tf.Tensor, reduction: tf.Tensor) -> tf.Tensor:
    """Reduces a window that was decoded before; each pixel is the mean of those it stands for.

    Args:
      pixels: uint8 [height, width, channels], a window from choose_reductions.
      reduction: int32 [], from choose_reductions.

    Returns:
      uint8, both sides divided by 1, 2, 4 or 8.
    """

    def means(factor: int) -> tf.Tensor:
        if factor == 1:
            return pixels
        pooled = tf.nn.avg_pool2d(tf.cast(pixels[None], tf.float32), factor, factor, "VALID")[0]
        return tf.cast(pooled + 0.5, tf.uint8)  # rounded: the cast cuts off

    return tf.switch_case(reduction, [lambda f=factor: means(f) for factor in REDUCTIONS])


def to_size(pixels: tf.Tensor, sides: tuple[int, int] | tf.Tensor) -> tf.Tensor:
    """Resizes uint8 [height, width, channels], bilinear without antialiasing."""
    resized = tf.raw_ops.ResizeBilinear(
        images=tf.expand_dims(pixels, 0), size=sides, half_pixel_centers=True
    )
    return tf.cast(tf.squeeze(resized, 0) + 0.5, tf.uint8)  # rounded: the cast cuts off


def sample_flips(count: int, seed: tf.Tensor) -> tf.Tensor:
    """Draws which examples are mirrored: bool [count], each with probability 1/2."""
    return tf.random.stateless_uniform([count], seed) < 0.5
