"""The ways of seeing an image of which a feature cache holds the pools.

The whole image, its mirror image, and fixed windows: drawn once for each image, from its
place in the split alone, so that every run over the cache sees the same ones.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from petseg.augmentation import Augmentation
from petseg.data import record
from petseg.input_pipeline import examples, resizing, shard_reading, windows
from petseg.seeds import Stream, fold_seed

WHOLE = "whole"
MIRRORED = "mirrored"
_CROP = "crop"
_RAW = np.arange(256, dtype=np.uint8)  # class ids that leave raw labels as they are


def views_of(augmentation: Augmentation, crops: int) -> tuple[str, ...]:
    """The names of the views of a training image.

    Args:
      augmentation: with flips there is a mirror image.
      crops: how many fixed windows.
    """
    mirrored = (MIRRORED,) if augmentation.flip else ()
    return (WHOLE, *mirrored, *(f"{_CROP}{number}" for number in range(1, crops + 1)))


def read_view(
    shard_paths: Sequence[str],
    view: str,
    wanted: np.ndarray,
    *,
    augmentation: Augmentation,
    image_size: int,
    keep_aspect: bool,
    batch_size: int,
) -> tf.data.Dataset:
    """Examples of a split as one view shows them, in the order of batches.make_for_eval.

    Args:
      shard_paths: TFRecord files.
      view: of views_of.
      wanted: bool [records], which places of the split are wanted.
      augmentation: of the windows.
      image_size: pixels.
      keep_aspect: as of resizing.resize_image, for whole images.
      batch_size: examples; the last batch may hold fewer.

    Returns:
      A dataset of dicts: `place`, int64 [n], in the split; `name`, string [n]; `image`,
      uint8 [n, size, size, 3]; `mask`, uint8 [n, size, size], raw labels; `sides`, int32
      [n, 2], rows and columns that do not fill up.
    """
    is_wanted = tf.constant(wanted)

    def see(place: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        fields = record.parse_record(serialized)
        if view.startswith(_CROP):
            crop = int(view.removeprefix(_CROP))
            image, mask = _crop(fields, crop, place, augmentation, image_size, keep_aspect)
            sides = (image_size, image_size)
        else:
            image, mask = examples.whole(
                serialized, _RAW, image_size, keep_aspect, is_mirrored=view == MIRRORED
            )
            stored = (tf.cast(fields[key], tf.int32) for key in (record.HEIGHT, record.WIDTH))
            sides = resizing.fitted(*stored, image_size, keep_aspect)
        name = fields[record.SOURCE_ID]
        return {
            "place": place, "name": name, "image": image, "mask": mask, "sides": tf.stack(sides)
        }  # fmt: skip

    return (
        shard_reading.read(shard_paths)
        .enumerate()
        .filter(lambda place, _: is_wanted[place])
        .map(see, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )


def _crop(
    fields: dict[str, tf.Tensor],
    crop: int,
    place: tf.Tensor,
    augmentation: Augmentation,
    size: int,
    keep_aspect: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The window of that number, as training would decode it."""
    drawn = windows.sample_windows(
        augmentation.min_crop_area,
        augmentation.max_crop_aspect,
        1,
        fold_seed(crop, Stream.FIXED_WINDOW, place),
    )
    alone = {key: tf.expand_dims(values, 0) for key, values in fields.items()}
    planned = examples.plan(alone, drawn, keep_aspect, size)
    if augmentation.flip:
        planned["flip"] = windows.sample_flips(1, fold_seed(crop, Stream.FIXED_FLIP, place))
    made = examples.make({k: v[0] for k, v in planned.items()}, _RAW, size, letterbox=False)
    return made["image"], made["mask"]
