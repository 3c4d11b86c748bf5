"""Which raw values the masks of a split hold."""

import sys

import tensorflow as tf
from google.protobuf.message import DecodeError

from petseg.data import manifest, record, tfrecord
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


def raw_values_of_shard(path: str) -> set[int]:
    """The raw values in the masks of one shard, which are decoded one after the other.

    This can be called by the input pipeline itself, which a pipeline within would block.

    Args:
      path: A TFRecord file.

    Raises:
      FaultFound: A mask cannot be decoded.
    """
    values: set[int] = set()
    count = 0
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            for frame in tfrecord.read_frames(file):
                example = tf.train.Example.FromString(frame.data)
                (encoded,) = example.features.feature[record.MASK].bytes_list.value
                mask = record.decode_mask(encoded).numpy()
                # Faster by far than sorting or counting the pixels.
                values.update(mask.tobytes().translate(None, delete=bytes(values)))
                count += 1
    except (tf.errors.OpError, tfrecord.DamagedFrame, DecodeError, ValueError) as error:
        raise FaultFound(f"{path}, record {count}: its mask cannot be decoded") from error
    return values


@tf.autograph.experimental.do_not_convert
def _values(serialized: tf.Tensor) -> tf.Tensor:
    mask = record.decode_mask(record.parse_record(serialized)[record.MASK])
    return tf.unique(tf.reshape(mask, [-1])).y
