"""Features as a batch or a file holds them: float16, or uint8 with a scale for each channel.

What a ReLU and a maximum give is never negative, and most of it is near 0: 256 steps up to
the largest value of each channel in each image are off by half a step at most. Features of
either sign have steps from the channel's least value, which is stored, too.
"""

from collections.abc import Collection, Mapping

import tensorflow as tf

from petseg.models.encoders.base import IMAGE

_FEATURES, _SCALE, _OFFSET = "features/", "scale/", "offset/"
_STEPS = 255.0


def features_key(stage: str) -> str:
    """The key of a stage's output in a batch of features."""
    return f"{_FEATURES}{stage}"


def scale_key(stage: str) -> str:
    """The key of the factors of a stage's uint8 output."""
    return f"{_SCALE}{stage}"


def offset_key(stage: str) -> str:
    """The key of what is added to a signed stage's uint8 output, once it is scaled."""
    return f"{_OFFSET}{stage}"


def encode(
    outputs: Mapping[str, tf.Tensor], dtype: str, signed: Collection[str] = ()
) -> dict[str, tf.Tensor]:
    """Features in the form in which they are stored.

    Args:
      outputs: By stage, float [batch, height, width, channels]; the image, under IMAGE, is
        uint8 and stays so.
      dtype: 'uint8' or 'float16'.
      signed: The stages whose outputs may be negative.

    Returns:
      By features_key, uint8 or float16 of the output's shape; with uint8 also by scale_key,
      and for signed stages by offset_key, float32 [batch, channels], but for the image.
    """
    encoded = {}
    for stage, output in outputs.items():
        if stage == IMAGE:
            encoded[features_key(stage)] = output
            continue
        values = tf.cast(output, tf.float32)
        if dtype == "float16":
            encoded[features_key(stage)] = tf.saturate_cast(values, tf.float16)
            continue
        if stage in signed:
            least = tf.reduce_min(values, axis=[1, 2], keepdims=True)
            values -= least
            encoded[offset_key(stage)] = least[:, 0, 0]
        scale = tf.reduce_max(values, axis=[1, 2], keepdims=True) / _STEPS
        steps = tf.round(tf.math.divide_no_nan(values, scale))
        encoded[features_key(stage)] = tf.cast(tf.minimum(steps, _STEPS), tf.uint8)
        encoded[scale_key(stage)] = scale[:, 0, 0]
    return encoded


def decode(batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """What a batch holds of its examples, as SegmentationModel.features takes it.

    Args:
      batch: With IMAGE, uint8 [batch, height, width, 3], or with what `encode` gave.

    Returns:
      The images under IMAGE, or each stage's output under its name, float32.
    """
    if IMAGE in batch:
        return {IMAGE: batch[IMAGE]}
    outputs = {}
    for key, values in batch.items():
        if key.startswith(_FEATURES):
            stage = key.removeprefix(_FEATURES)
            if stage == IMAGE:
                outputs[stage] = values
                continue
            output = tf.cast(values, tf.float32)
            if (scale := batch.get(scale_key(stage))) is not None:
                output *= scale[:, None, None, :]
            if (offset := batch.get(offset_key(stage))) is not None:
                output += offset[:, None, None, :]
            outputs[stage] = output
    return outputs
