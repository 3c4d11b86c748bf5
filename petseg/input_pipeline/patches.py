"""Patches around and beside the object of a picture, with the mask and the objectness of each.

`sample` draws numbers for a batch before any picture is decoded; `place` turns those of one
example into a window, once the object's box is known; `make` cuts it out. A mask of classes does
not tell objects of one class apart, so all object pixels of a picture are one object.

Source: see petseg.patch_sampling.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from petseg.data import record
from petseg.data.label_map import IGNORE, IMAGE_LABELS, LabelMap, foreground
from petseg.errors import UserError
from petseg.input_pipeline import resizing, windows
from petseg.input_pipeline.class_ids import to_class_ids
from petseg.input_pipeline.pictures import EncodedPictures, Pictures
from petseg.patch_sampling import PatchSampling
from petseg.seeds import Stream, fold_seed

OUTSIDE_GREY = 128  # of pixels outside of the picture
_MIN_SIDE_PX = 16  # of a patch in its picture
_MAX_OFF = 7 / 16  # of a shifted patch's side: it keeps a part of the object
_DRAWS = 5
_FIXED_SEED = 0  # validation is the same whatever a run's seed


@dataclasses.dataclass(frozen=True)
class PatchOptions:
    """How patches are taken.

    Attributes:
      sampling: See PatchSampling.
      object_class: Class id of objects, 0 or 1; the other one is the background.
    """

    sampling: PatchSampling
    object_class: int

    @property
    def background(self) -> int:
        """Class id of the background."""
        return 1 - self.object_class


def object_class(label_map: LabelMap) -> int:
    """The class of objects in a label map of two classes.

    Raises:
      UserError: It has other classes; says how classes become one.
    """
    objects = foreground(label_map.names)
    if label_map.num_classes != 2 or len(objects) != 1:
        raise UserError(
            f"config.patches.enabled=True needs a label map of background and one class of "
            f"objects, but config.data.label_map is {label_map.spec()!r}; make one class of all "
            "objects, as in --config.data.label_map='object=1,3; background=2'"
        )
    return objects[0]


def sample(count: int, seed: tf.Tensor) -> tf.Tensor:
    """Draws what `place` needs of each example: float32 [count, 5], uniform from 0 to below 1."""
    return tf.random.stateless_uniform([count, _DRAWS], seed)


def sample_fixed(position: tf.Tensor) -> tf.Tensor:
    """The same for an example of the validation split, by its position in it: float32 [5]."""
    return sample(1, fold_seed(_FIXED_SEED, Stream.FIXED_PATCH, position))[0]


def plan(
    fields: dict[str, tf.Tensor], drawn: tf.Tensor, pictures: Pictures
) -> dict[str, tf.Tensor]:
    """What `make` needs of each example, [n, ...].

    Args:
      fields: From pictures.parse, [n] each.
      drawn: From `sample`, [n, 5].
      pictures: Where pixels come from.
    """
    sides = tf.stack([fields[record.HEIGHT], fields[record.WIDTH]], 1)
    carried = {key: fields[key] for key in pictures.carried}
    return {**carried, "sides": tf.cast(sides, tf.int32), "patch": drawn}


def place(
    box: tf.Tensor, sides: tf.Tensor, drawn: tf.Tensor, has_object: tf.Tensor, s: PatchSampling
) -> tuple[tf.Tensor, tf.Tensor]:
    """Places a patch.

    Of the patches that are not canonical one half is shifted off the object, at its scale; the
    other half lies anywhere in the picture, at any scale from a quarter to four times the
    canonical one (by default), and is brought to a scale that is not canonical where it would be
    canonical otherwise. A picture without an object has patches of the second kind alone.

    Args:
      box: int32 [4], top, left, height and width of the object, or of the whole picture.
      sides: int32 [2], height and width of the picture in pixels.
      drawn: float32 [5], from `sample`.
      has_object: bool [].
      s: See PatchSampling.

    Returns:
      int32 [3], top, left and side in pixels of the picture, which it may stick out of; bool [],
      whether it is canonical.
    """
    kind, scale, down, across, direction = tf.unstack(drawn)
    is_canonical = has_object & (kind < s.canonical_share)
    is_shifted = has_object & ~is_canonical & (kind < (1 + s.canonical_share) / 2)
    start, length = tf.cast(box[:2], tf.float32), tf.cast(box[2:], tf.float32)
    centre = start + length / 2
    canonical_side = tf.reduce_max(length) / s.object_share
    signed = 2.0 * scale - 1.0
    position = tf.stack([down, across])

    # Anywhere: at a drawn point of the picture.
    octaves = signed * 2 * s.other_min_octaves
    anywhere = position * tf.cast(sides, tf.float32)
    off = tf.reduce_max(tf.abs(anywhere - centre)) / (canonical_side * 2.0**octaves)
    is_close = (tf.abs(octaves) < s.other_min_octaves) & (off < s.other_min_shift)
    sign = tf.where(octaves < 0, -1.0, 1.0)
    octaves = tf.where(is_close, octaves + sign * s.other_min_octaves, octaves)

    # Shifted: far in one of four directions, and by at most as much along the other axis.
    far = s.other_min_shift + (_MAX_OFF - s.other_min_shift) * down
    way = tf.cast(4.0 * direction, tf.int32)
    main, beside = tf.where(way < 2, far, -far), far * (2.0 * across - 1.0)
    shifted = tf.where(way % 2 == 0, tf.stack([main, beside]), tf.stack([beside, main]))
    jitter = s.max_shift * (2.0 * position - 1.0)

    octaves = tf.where(is_canonical | is_shifted, signed * s.max_octaves, octaves)
    side = tf.maximum(tf.round(canonical_side * 2.0**octaves), _MIN_SIDE_PX)
    shift = side * tf.where(is_canonical, jitter, shifted)
    centre = tf.where(is_canonical | is_shifted, centre + shift, anywhere)
    corner = tf.round(centre - side / 2)
    return tf.cast(tf.concat([corner, side[None]], 0), tf.int32), is_canonical


def make(
    planned: dict[str, tf.Tensor],
    class_ids: np.ndarray,
    size: int,
    options: PatchOptions,
    pictures: Pictures,
) -> dict[str, tf.Tensor]:
    """Makes a patch as `plan` has it.

    Args:
      planned: One example of `plan`, and what was drawn for it: `flip` is applied here, all else
        is passed on.
      class_ids: uint8 [256], raw mask value -> class id.
      size: Side of the result, in pixels.
      options: See PatchOptions.
      pictures: Where pixels come from.

    Returns:
      A dict of `image`, uint8 [size, size, 3], RGB, grey outside of the picture; `mask`, uint8
      [size, size], class ids, the background outside of the picture, and IGNORE everywhere unless
      the patch is canonical; `image_labels`, uint8 [2], 1 or 0 for the class of objects, whether
      the patch is canonical, and IGNORE for the background; and the rest of `planned`.
    """
    planned = dict(planned)
    drawn, sides = planned.pop("patch"), planned.pop("sides")
    example = {key: planned.pop(key) for key in pictures.carried}
    whole = pictures.mask(example, tf.range(sides[0]), tf.range(sides[1]))
    ids = to_class_ids(whole, class_ids)
    box, has_object = find_box(ids == options.object_class)
    patch, is_canonical = place(box, sides, drawn, has_object, options.sampling)
    rows, columns = (resizing.nearest(patch[axis], patch[2], size) for axis in (0, 1))
    image = _cut_image(example, patch, sides, rows, columns, pictures)
    inside = _inside(rows, sides[0])[:, None] & _inside(columns, sides[1])[None]
    # Rows and columns outside show the nearest inside, until they become background.
    mask = resizing.sample(
        ids, tf.clip_by_value(rows, 0, sides[0] - 1), tf.clip_by_value(columns, 0, sides[1] - 1)
    )
    mask = tf.where(inside, mask, tf.constant(options.background, tf.uint8))
    if "flip" in planned:
        flip = planned.pop("flip")
        image = tf.cond(flip, lambda: tf.reverse(image, [1]), lambda: image)
        mask = tf.cond(flip, lambda: tf.reverse(mask, [1]), lambda: mask)
    labels = [tf.constant(IGNORE, tf.uint8)] * 2
    labels[options.object_class] = tf.cast(is_canonical, tf.uint8)
    return {
        "image": tf.ensure_shape(image, [size, size, 3]),
        "mask": tf.ensure_shape(
            tf.where(is_canonical, mask, tf.constant(IGNORE, tf.uint8)), [size, size]
        ),
        IMAGE_LABELS: tf.stack(labels),
        **planned,
    }


class _WholePictures(EncodedPictures):
    """Pictures that are decoded whole, however their records store them."""

    def image_window(
        self, example: dict[str, tf.Tensor], window: tf.Tensor, reduction: tf.Tensor
    ) -> tf.Tensor:
        """See Pictures.image_window; a reduced window holds the means of its pixels."""
        whole = record.decode_image_as_windows(example[record.IMAGE])
        top, left, height, width = tf.unstack(window)
        return windows.reduce(whole[top : top + height, left : left + width], reduction)


_WHOLE = _WholePictures()


def fixed(
    serialized: tf.Tensor,
    position: tf.Tensor,
    class_ids: np.ndarray,
    size: int,
    options: PatchOptions,
) -> dict[str, tf.Tensor]:
    """The patch of a record of the validation split, the same at each evaluation.

    Args:
      serialized: string [].
      position: int64 [], of the record in its split, from 0.
      class_ids: See `make`.
      size: See `make`.
      options: See PatchOptions.

    Returns:
      `image`, `mask` and `image_labels`; see `make`.
    """
    fields = {key: value[None] for key, value in _WHOLE.parse(serialized).items()}
    planned = plan(fields, sample_fixed(position)[None], _WHOLE)
    planned = {key: value[0] for key, value in planned.items()}
    return make(planned, class_ids, size, options, _WHOLE)


def find_box(is_object: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The tight box of some pixels.

    Args:
      is_object: bool [height, width].

    Returns:
      int32 [4], top, left, height and width, of the whole picture if there is no such pixel; bool
      [], whether there is one.
    """
    starts, lengths = [], []
    for axis in (1, 0):
        found = tf.cast(tf.where(tf.reduce_any(is_object, axis))[:, 0], tf.int32)
        side = tf.shape(is_object)[1 - axis]
        found = tf.cond(tf.size(found) > 0, lambda f=found: f, lambda n=side: tf.range(n))
        starts.append(found[0])
        lengths.append(found[-1] - found[0] + 1)
    return tf.stack(starts + lengths), tf.reduce_any(is_object)


def _inside(indices: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    return (indices >= 0) & (indices < side)


def _cut_image(
    example: dict[str, tf.Tensor],
    patch: tf.Tensor,
    sides: tf.Tensor,
    rows: tf.Tensor,
    columns: tf.Tensor,
    pictures: Pictures,
) -> tf.Tensor:
    """A patch of an image, grey outside of it.

    Args:
      example: For pictures.image_window.
      patch: int32 [3], from `place`.
      sides: int32 [2], of the picture.
      rows: int32 [size], the row of the picture that each row of the result shows.
      columns: int32 [size].
      pictures: Where pixels come from.

    Returns:
      uint8 [size, size, 3]; what is inside is resized from the part of the picture within the
      patch, bilinear.
    """
    size = tf.shape(rows)[0]
    start = tf.maximum(patch[:2], 0)
    end = tf.minimum(patch[:2] + patch[2], sides)
    # Fewer pixels are decoded than 8 px of a side leave; see windows.choose_reductions.
    factors = tf.constant(windows.REDUCTIONS[1:])
    is_reducible = (patch[2] >= factors * size) & (tf.reduce_min(end - start) >= 8 * factors)
    reduction = tf.reduce_sum(tf.cast(is_reducible, tf.int32))
    factor = tf.gather(tf.constant(windows.REDUCTIONS), reduction)
    start, end = -(-start // factor) * factor, end // factor * factor
    pixels = pictures.image_window(example, tf.concat([start, end - start], 0), reduction)
    padding, shown = [], []
    for indices, side in ((rows, sides[0]), (columns, sides[1])):
        before = tf.math.count_nonzero(indices < 0, dtype=tf.int32)
        count = tf.math.count_nonzero(_inside(indices, side), dtype=tf.int32)
        shown.append(count)
        padding.append([before, size - before - count])
    # Of a part narrower than what a pixel shows, none may be left.
    resized = windows.to_size(pixels, tf.maximum(shown, 1))[: shown[0], : shown[1]]
    return tf.pad(resized, [*padding, [0, 0]], constant_values=OUTSIDE_GREY)
