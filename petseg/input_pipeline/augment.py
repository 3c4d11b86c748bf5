"""Random changes of a batch beyond windows and flips, each in two pure functions.

`sample_...` draws numbers from a seed for the whole batch, in the input pipeline;
`warp`, `cut_out`, `blur` and `recolour` apply them, on the device that trains: there they
cost little, and any number of replicas applies the same numbers to the same examples.
`cutmix` mixes examples of the whole batch and therefore stays in the pipeline.

Sources: Zhang et al. 2018 (mixup, which is not here: a mask of class ids has no blend),
Yun et al. 2019 (CutMix), DeVries and Taylor 2017 (cutout).
"""

import math

import numpy as np
import tensorflow as tf

from petseg.augmentation import Augmentation
from petseg.data.label_map import IGNORE
from petseg.image_size import ImageSize, sides_of
from petseg.seeds import Stream, fold_seed

# Luma weights of Rec. 601, and the axes of its colour plane (YIQ).
_LUMA = np.array([0.299, 0.587, 0.114])
_RGB_TO_YIQ = np.array([_LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_MID_GREY = 127.5
_DRAWN = {"warp", "cutout", "blur", "colour"}
_LEAST_SIGMA_PX = 0.05  # below it a blur changes nothing


def sample(
    augmentation: Augmentation, count: int, size: ImageSize, seed: int, step: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Draws what `apply` needs for one batch.

    Args:
      augmentation: Which changes, and how strong; flips and windows are not drawn here.
      count: Examples in the global batch.
      size: Of the images, in pixels.
      seed: The run's seed.
      step: int64 [], the batch's number.

    Returns:
      For each change that is on, of `warp`, `cutout`, `blur`, `colour`, a tensor with one
      row per example.
    """
    a, drawn = augmentation, {}
    if a.max_rotation_degrees or a.max_shear_degrees or a.max_zoom or a.max_shift:
        drawn["warp"] = sample_warps(a, count, size, fold_seed(seed, Stream.WARP, step))
    if a.cutout_area:
        drawn["cutout"] = sample_cutouts(
            a.cutout_area, count, size, fold_seed(seed, Stream.CUTOUT, step)
        )
    if a.max_blur_sigma_px:
        drawn["blur"] = a.max_blur_sigma_px * tf.random.stateless_uniform(
            [count], fold_seed(seed, Stream.BLUR, step)
        )
    if a.brightness or a.contrast or a.saturation or a.max_hue_degrees:
        drawn["colour"] = sample_colours(a, count, fold_seed(seed, Stream.COLOUR, step))
    return drawn


@tf.autograph.experimental.do_not_convert
def apply(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Applies what was drawn for a batch to its images and masks.

    Args:
      batch: `mask`, uint8 [n, height, width]; and where `sample` drew anything, its tensors and
        `image`, uint8 [n, height, width, 3]. Other entries are left as they are.

    Returns:
      The batch without what `sample` gave.
    """
    if not _DRAWN & batch.keys():
        return batch
    batch = dict(batch)
    image, mask = batch["image"], batch["mask"]
    if "warp" in batch:
        image, mask = warp(image, mask, batch.pop("warp"))
    if "cutout" in batch:
        image, mask = cut_out(image, mask, batch.pop("cutout"))
    if "blur" in batch:
        image = blur(image, batch.pop("blur"))
    if "colour" in batch:
        image = recolour(image, batch.pop("colour"))
    return {**batch, "image": image, "mask": mask}


def sample_warps(
    augmentation: Augmentation, count: int, size: ImageSize, seed: tf.Tensor
) -> tf.Tensor:
    """Draws a rotation, shear, zoom and shift for each example.

    Returns:
      float32 [count, 8]: output pixel (x, y) shows input pixel (a0 x + a1 y + a2,
      b0 x + b1 y + b2); the rest is 0. Images turn about their centre.
    """
    a = augmentation
    draws = 2.0 * tf.random.stateless_uniform([5, count], seed) - 1.0
    angle = math.radians(a.max_rotation_degrees) * draws[0]
    slant = tf.tan(math.radians(a.max_shear_degrees) * draws[1])
    shrink = tf.exp(-math.log1p(a.max_zoom) * draws[2])
    cos, sin = shrink * tf.cos(angle), shrink * tf.sin(angle)
    # Output to input: undo the shift, then turn, then slant.
    a0, a1 = cos + slant * sin, -sin + slant * cos
    b0, b1 = sin, cos
    height, width = sides_of(size)
    row, column = (height - 1) / 2, (width - 1) / 2
    x, y = column + a.max_shift * width * draws[3], row + a.max_shift * height * draws[4]
    zero = tf.zeros_like(a0)
    return tf.stack(
        [a0, a1, column - a0 * x - a1 * y, b0, b1, row - b0 * x - b1 * y, zero, zero], 1
    )


def warp(images: tf.Tensor, masks: tf.Tensor, warps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Warps images (bilinear) and masks (nearest neighbour).

    An image is continued by its mirror image, so that no new edge appears; the mask is
    IGNORE there.

    Args:
      images: uint8 [n, height, width, 3].
      masks: uint8 [n, height, width].
      warps: float32 [n, 8], from sample_warps.
    """

    def move(pictures: tf.Tensor, interpolation: str, fill_mode: str) -> tf.Tensor:
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=pictures,
            transforms=warps,
            output_shape=tf.shape(pictures)[1:3],
            fill_value=float(IGNORE),
            interpolation=interpolation,
            fill_mode=fill_mode,
        )

    moved = move(tf.cast(images, tf.float32), "BILINEAR", "REFLECT")
    moved_masks = move(masks[..., None], "NEAREST", "CONSTANT")[..., 0]
    return tf.ensure_shape(_to_uint8(moved), images.shape), tf.ensure_shape(
        moved_masks, masks.shape
    )


def sample_cutouts(max_area: float, count: int, size: ImageSize, seed: tf.Tensor) -> tf.Tensor:
    """Draws a square for each example: int32 [count, 4], top, left, bottom, right.

    Its area is uniform up to a share of the image's, its centre anywhere, so that it may
    reach over the edge.
    """
    draws = tf.random.stateless_uniform([3, count], seed)
    height, width = sides_of(size)
    half = 0.5 * math.sqrt(height * width) * tf.sqrt(max_area * draws[0])
    y, x = height * draws[1], width * draws[2]
    return tf.cast(tf.round(tf.stack([y - half, x - half, y + half, x + half], 1)), tf.int32)


def cut_out(images: tf.Tensor, masks: tf.Tensor, squares: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Makes squares mid-grey in the images and IGNORE in the masks.

    Args:
      images: uint8 [n, height, width, 3].
      masks: uint8 [n, height, width].
      squares: int32 [n, 4], from sample_cutouts.
    """
    inside = _inside(squares, tf.shape(masks)[1], tf.shape(masks)[2])
    grey = tf.constant(round(_MID_GREY), images.dtype)
    return (
        tf.where(inside[..., None], grey, images),
        tf.where(inside, tf.constant(IGNORE, masks.dtype), masks),
    )


def blur(images: tf.Tensor, sigmas: tf.Tensor) -> tf.Tensor:
    """Gaussian blur with a standard deviation for each image.

    At the edges the kernel is cut off and normalised again.

    Args:
      images: uint8 [n, height, width, 3].
      sigmas: float32 [n], pixels; 0 leaves an image as it is.
    """

    def kernels(length: tf.Tensor) -> tf.Tensor:
        positions = tf.range(tf.cast(length, tf.float32))
        distance = positions[:, None] - positions[None]
        sigma = tf.maximum(sigmas, _LEAST_SIGMA_PX)[:, None, None]
        weights = tf.exp(-0.5 * tf.square(distance / sigma))
        return weights / tf.reduce_sum(weights, axis=2, keepdims=True)

    pixels = tf.cast(images, tf.float32)
    down = tf.einsum("nij,njwc->niwc", kernels(tf.shape(images)[1]), pixels)
    return _to_uint8(tf.einsum("nij,nhjc->nhic", kernels(tf.shape(images)[2]), down))


def sample_colours(augmentation: Augmentation, count: int, seed: tf.Tensor) -> tf.Tensor:
    """Draws brightness, contrast, saturation and hue for each example.

    Each of them is an affine map of RGB, so together they are one.

    Returns:
      float32 [count, 3, 4]: a matrix from RGB to RGB, and in the last column the offset in
      grey levels.
    """
    a = augmentation
    draws = 2.0 * tf.random.stateless_uniform([4, count], seed) - 1.0
    brightness, contrast, saturation = (
        (1.0 + strength * draws[i])[:, None, None]
        for i, strength in enumerate((a.brightness, a.contrast, a.saturation))
    )
    angle = math.radians(a.max_hue_degrees) * draws[3]
    zero, one = tf.zeros_like(angle), tf.ones_like(angle)
    turn = tf.stack(
        [
            tf.stack([one, zero, zero], 1),
            tf.stack([zero, tf.cos(angle), -tf.sin(angle)], 1),
            tf.stack([zero, tf.sin(angle), tf.cos(angle)], 1),
        ],
        1,
    )
    to_yiq = tf.constant(_RGB_TO_YIQ, tf.float32)
    from_yiq = tf.constant(np.linalg.inv(_RGB_TO_YIQ), tf.float32)
    hue = tf.einsum("ij,njk,kl->nil", from_yiq, turn, to_yiq)
    grey = tf.constant(np.tile(_LUMA, (3, 1)), tf.float32)
    saturate = saturation * tf.eye(3) + (1.0 - saturation) * grey
    matrix = brightness * contrast * tf.matmul(saturate, hue)
    added = (1.0 - contrast) * _MID_GREY * brightness * tf.ones([3, 1])
    return tf.concat([matrix, added], 2)


def recolour(images: tf.Tensor, colours: tf.Tensor) -> tf.Tensor:
    """Maps the colours of each image: matrix times RGB plus an offset, clipped to 0-255.

    Args:
      images: uint8 [n, height, width, 3], RGB.
      colours: float32 [n, 3, 4], from sample_colours.
    """
    mapped = tf.einsum("nij,nhwj->nhwi", colours[..., :3], tf.cast(images, tf.float32))
    return _to_uint8(mapped + colours[:, None, None, :, 3])


def cutmix(
    images: tf.Tensor, masks: tf.Tensor, probability: float, seed: int, step: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Pastes a rectangle of the neighbouring example into each one, with its mask.

    Neighbours are pairs, so that hosts which share a batch mix as one host would; the last of
    an odd number stays as it is. A batch has one rectangle, as in the authors' code: of the
    image's aspect, its area uniform between 0 and 1 of the image's, its centre anywhere, cut
    at the edges.

    Args:
      images: uint8 [n, height, width, 3].
      masks: uint8 [n, height, width].
      probability: Probability that this batch is mixed at all.
      seed: The run's seed.
      step: int64 [], the batch's number.
    """
    draws = tf.random.stateless_uniform([4], fold_seed(seed, Stream.CUTMIX, step))
    share = tf.where(draws[0] < probability, tf.sqrt(draws[1]), 0.0)

    def span(length: int, draw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        half, centre = 0.5 * share * length, draw * length
        ends = tf.stack([centre - half, centre + half])
        start, end = tf.unstack(tf.cast(tf.clip_by_value(tf.round(ends), 0.0, length), tf.int32))
        return start, end

    top, bottom = span(images.shape[1], draws[2])
    left, right = span(images.shape[2], draws[3])

    count = tf.shape(images)[0]
    neighbours = tf.minimum(tf.bitwise.bitwise_xor(tf.range(count), 1), count - 1)

    def paste(pictures: tf.Tensor) -> tf.Tensor:
        others = tf.gather(pictures, neighbours)[:, top:bottom, left:right]
        rows = pictures[:, top:bottom]
        mixed = tf.concat([rows[:, :, :left], others, rows[:, :, right:]], 2)
        pasted = tf.concat([pictures[:, :top], mixed, pictures[:, bottom:]], 1)
        return tf.ensure_shape(pasted, pictures.shape)

    return paste(images), paste(masks)


def _inside(boxes: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """bool [n, height, width]: which pixels lie in boxes of top, left, bottom, right."""
    top, left, bottom, right = (edge[:, None] for edge in tf.unstack(boxes, axis=1))
    rows, columns = tf.range(height)[None], tf.range(width)[None]
    down = (rows >= top) & (rows < bottom)
    across = (columns >= left) & (columns < right)
    return down[:, :, None] & across[:, None, :]


def _to_uint8(pixels: tf.Tensor) -> tf.Tensor:
    return tf.saturate_cast(tf.round(pixels), tf.uint8)
