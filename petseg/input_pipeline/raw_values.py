"""Which raw values the masks of a split hold."""

import sys

import tensorflow as tf

from petseg.data import manifest, record
from petseg.data.manifest import Split
from petseg.errors import FaultFound


def raw_values(data_dir: str, split: Split) -> set[int]:
    """The raw mask values of a split: by its manifest, or else by decoding every mask.

    The masks of a data set that was converted with --validate=header were never decoded; a
    value that the label map does not cover must still not reach training.

    Args:
      data_dir: The data set.
      split: One of its splits.

    Raises:
      FaultFound: A mask cannot be decoded.
    """
    if split.pixels_per_label:
        return set(split.pixels_per_label)
    print(
        f"{data_dir}: masks were never decoded (--validate=header); decoding "
        f"{split.records:,} of them",
        file=sys.stderr,
    )
    masks = tf.data.TFRecordDataset(manifest.shard_paths(data_dir, split)).map(
        _values, num_parallel_calls=tf.data.AUTOTUNE
    )
    all_values: set[int] = set()
    try:
        for values in masks:
            all_values.update(values.numpy().tolist())
    except tf.errors.InvalidArgumentError as error:
        raise FaultFound(
            f"{data_dir}: a mask cannot be decoded; tools/verify.py --data_dir={data_dir} names it"
        ) from error
    return all_values


@tf.autograph.experimental.do_not_convert
def _values(serialized: tf.Tensor) -> tf.Tensor:
    mask = record.decode_mask(record.parse_record(serialized)[record.MASK])
    return tf.unique(tf.reshape(mask, [-1])).y
