"""Random windows and flips that move an image and its mask together.

Every function is pure: the same seed gives the same result, eagerly and inside
tf.data.
"""

import tensorflow as tf

# Folded into an example's seed, so that its draws do not depend on each other.
_WINDOW_DRAWS, _FLIP_DRAWS = 1, 2


def sample_window(
    height: tf.Tensor, width: tf.Tensor, min_area: float, max_aspect: float, seed: tf.Tensor
) -> tf.Tensor:
    """Draws a window inside an image.

    Its area is uniform between min_area and 1 of the image's; its aspect relative to
    the image's is log-uniform between 1/max_aspect and max_aspect; its place is
    uniform. A side that would exceed the image is cut to it.

    Args:
      height: int32 [], pixels.
      width: int32 [], pixels.
      min_area: share of the image's area, above 0 and at most 1.
      max_aspect: at least 1.
      seed: int64 [2].

    Returns:
      int32 [4]: top, left, height, width, in pixels; never empty, always inside.
    """
    seed = tf.random.fold_in(seed, _WINDOW_DRAWS)
    draws = tf.random.stateless_uniform([4], seed)
    area = min_area + draws[0] * (1.0 - min_area)
    aspect = tf.exp((2.0 * draws[1] - 1.0) * tf.math.log(tf.constant(max_aspect, tf.float32)))
    # A whole image has no room for another aspect.
    aspect = tf.where(area < 1.0, aspect, 1.0)

    def side(share: tf.Tensor, full: tf.Tensor) -> tf.Tensor:
        pixels = tf.cast(tf.round(share * tf.cast(full, tf.float32)), tf.int32)
        return tf.clip_by_value(pixels, 1, full)

    window_height = side(tf.sqrt(area / aspect), height)
    window_width = side(tf.sqrt(area * aspect), width)

    def offset(draw: tf.Tensor, room: tf.Tensor) -> tf.Tensor:
        return tf.minimum(tf.cast(draw * tf.cast(room + 1, tf.float32), tf.int32), room)

    top = offset(draws[2], height - window_height)
    left = offset(draws[3], width - window_width)
    return tf.stack([top, left, window_height, window_width])


def random_flip(image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mirrors image and mask left to right, both or neither, with probability 1/2.

    Args:
      image: [height, width, channels].
      mask: [height, width, 1].
      seed: int64 [2].
    """
    draw = tf.random.stateless_uniform([], tf.random.fold_in(seed, _FLIP_DRAWS))
    return tf.cond(
        draw < 0.5,
        lambda: (tf.reverse(image, [1]), tf.reverse(mask, [1])),
        lambda: (image, mask),
    )
