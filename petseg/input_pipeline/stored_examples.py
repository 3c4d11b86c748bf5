"""Single examples of a split, outside of training and evaluation batches."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from petseg.data import record
from petseg.input_pipeline import pipeline, reading
from petseg.input_pipeline.pipeline import InputOptions
from petseg.input_pipeline.verified_shards import VerifiedShards


@dataclasses.dataclass(frozen=True)
class Original:
    """An example as it is stored.

    Attributes:
      index: Position in the split, from 0.
      name: Unique in its data set.
      filename: Name of the source file.
      image_class: Name of the image's class (for pets the breed); '' if it has none.
      image: uint8 [height, width, 3], RGB.
      mask: uint8 [height, width], raw labels.
    """

    index: int
    name: str
    filename: str
    image_class: str
    image: np.ndarray
    mask: np.ndarray


def read_examples(
    shard_paths: Sequence[str],
    indices: Sequence[int],
    options: InputOptions,
    verified: VerifiedShards | None = None,
) -> dict[str, np.ndarray]:
    """Some examples as pipeline.make_for_eval gives them; the others are not decoded.

    Args:
      shard_paths: TFRecord files.
      indices: Positions of the examples in the order of make_for_eval, at least one.
      options: How make_for_eval makes them.
      verified: See reading.Shards.

    Returns:
      A dict of arrays, in the order of `indices`:
        name: object [examples], str.
        image: uint8 [examples, height, width, 3], RGB.
        mask: uint8 [examples, height, width], class ids or IGNORE.
    """
    examples = {}
    for index, serialized in _records_at(shard_paths, indices, verified):
        example = pipeline.eval_example(serialized, index, options)
        name = _text(record.parse_record(serialized)[record.SOURCE_ID].numpy())
        examples[int(index)] = (name, example["image"].numpy(), example["mask"].numpy())
    names, images, masks = zip(*(examples[index] for index in indices), strict=True)
    return {"name": np.array(names, object), "image": np.stack(images), "mask": np.stack(masks)}


def read_originals(
    shard_paths: Sequence[str], indices: Sequence[int] | None = None
) -> Iterator[Original]:
    """Examples as they are stored, in the order of pipeline.make_for_eval.

    Args:
      shard_paths: TFRecord files.
      indices: Positions of the wanted examples; None for all.
    """

    @tf.autograph.experimental.do_not_convert
    def decode(index: tf.Tensor, serialized: tf.Tensor) -> tuple[tf.Tensor, ...]:
        fields = record.parse_record(serialized, (record.FILENAME, record.CLASS_TEXT))
        texts = [fields[key] for key in (record.SOURCE_ID, record.FILENAME, record.CLASS_TEXT)]
        mask = tf.squeeze(record.decode_mask(fields[record.MASK]), -1)
        return index, tf.stack(texts), record.decode_image(fields[record.IMAGE]), mask

    if indices is None:
        records = reading.read(shard_paths).enumerate()
    else:
        records = _records_at(shard_paths, sorted(indices))
    decoded = records.map(decode, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    for index, texts, image, mask in decoded.as_numpy_iterator():
        yield Original(int(index), *map(_text, texts), image, mask)


@tf.autograph.experimental.do_not_convert
def _records_at(
    shard_paths: Sequence[str], indices: Sequence[int], verified: VerifiedShards | None = None
) -> tf.data.Dataset:
    """(index, serialized record) of some examples, in the order of the shards."""
    wanted = tf.constant(list(indices), tf.int64)
    return (
        reading.read(shard_paths, verified=verified)
        .enumerate()
        .filter(lambda index, _: tf.reduce_any(index == wanted))
        .take(len(indices))
    )


def _text(content: bytes) -> str:
    return content.decode(errors="replace")
