"""The views of a training image whose features a cache holds.

The whole image, its mirror image, and fixed windows: drawn once for each image, from its
index in the split alone, so that every run over the cache gets the same ones.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from petseg.augmentation import Augmentation
from petseg.data import record
from petseg.image_size import ImageSize, sides_of
from petseg.input_pipeline import preprocessing, reading, resizing, windows
from petseg.input_pipeline.pictures import ENCODED, Pictures
from petseg.input_pipeline.verified_shards import VerifiedShards
from petseg.seeds import Stream, fold_seed

WHOLE = "whole"
MIRRORED = "mirrored"
_CROP = "crop"
_RAW = np.arange(256, dtype=np.uint8)  # class ids that leave raw labels as they are


@dataclasses.dataclass(frozen=True)
class ViewOptions:
    """How images become views.

    Attributes:
      augmentation: Whether there is a mirror image, and how windows are drawn.
      image_size: Of a view, in pixels.
      keep_aspect: See input_pipeline.pipeline.InputOptions.
    """

    augmentation: Augmentation
    image_size: ImageSize
    keep_aspect: bool


def views_of(augmentation: Augmentation, crops: int) -> tuple[str, ...]:
    """Names of the views of a training image.

    Args:
      augmentation: With flips there is a mirror image.
      crops: Number of fixed windows.
    """
    mirrored = (MIRRORED,) if augmentation.flip else ()
    return (WHOLE, *mirrored, *(f"{_CROP}{number}" for number in range(1, crops + 1)))


@tf.autograph.experimental.do_not_convert
def read_view(
    shard_paths: Sequence[str],
    view: str,
    wanted: np.ndarray,
    options: ViewOptions,
    batch_size: int,
    verified: VerifiedShards | None = None,
    pictures: Pictures = ENCODED,
) -> tf.data.Dataset:
    """Examples of a split in one view, in the order of pipeline.make_for_eval.

    Args:
      shard_paths: TFRecord files.
      view: One of views_of.
      wanted: bool [records], which examples of the split are wanted.
      options: See ViewOptions.
      batch_size: Examples in a batch; the last one may hold fewer.
      verified: See reading.Shards.
      pictures: What the records hold.

    Returns:
      A dataset of dicts:
        index: int64 [n], positions in the split.
        name: string [n].
        image_class: int64 [n], of the whole image; -1 if it has none.
        image: uint8 [n, height, width, 3].
        mask: uint8 [n, height, width], raw labels.
        sides: int32 [n, 2], rows and columns that show the image, before what fills it up.
    """
    is_wanted, size = tf.constant(wanted), options.image_size

    def make_view(index: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        fields = record.parse_record(serialized)
        if view.startswith(_CROP):
            image, mask = _crop(fields, int(view.removeprefix(_CROP)), index, options, pictures)
            sides = sides_of(size)
        else:
            image, mask = preprocessing.whole(
                serialized, _RAW, size, options.keep_aspect, is_mirrored=view == MIRRORED
            )
            stored = (tf.cast(fields[key], tf.int32) for key in (record.HEIGHT, record.WIDTH))
            sides = resizing.fitted(*stored, size, options.keep_aspect)
        return {
            "index": index,
            "name": fields[record.SOURCE_ID],
            "image_class": fields[record.CLASS_LABEL],
            "image": image,
            "mask": mask,
            "sides": tf.stack(sides),
        }

    return (
        reading.read(shard_paths, verified=verified)
        .enumerate()
        .filter(lambda index, _: is_wanted[index])
        .map(make_view, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )


def _crop(
    fields: dict[str, tf.Tensor],
    crop: int,
    index: tf.Tensor,
    options: ViewOptions,
    pictures: Pictures,
) -> tuple[tf.Tensor, tf.Tensor]:
    """An image's window of that number, as training would decode it."""
    augmentation, size = options.augmentation, options.image_size
    drawn = windows.sample_windows(
        augmentation.min_crop_area,
        augmentation.max_crop_aspect,
        1,
        fold_seed(crop, Stream.FIXED_WINDOW, index),
    )
    batch_of_one = {key: tf.expand_dims(values, 0) for key, values in fields.items()}
    planned = preprocessing.plan(batch_of_one, drawn, options.keep_aspect, size, pictures)
    if augmentation.flip:
        planned["flip"] = windows.sample_flips(1, fold_seed(crop, Stream.FIXED_FLIP, index))
    planned = {key: values[0] for key, values in planned.items()}
    example = preprocessing.make(planned, _RAW, size, False, pictures)
    return example["image"], example["mask"]
