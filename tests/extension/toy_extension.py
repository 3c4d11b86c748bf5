"""What somebody else's package may add to petseg: one of each, and a line for each."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from petseg.conversion.files import stored_file
from petseg.conversion.sources.base import (
    FilePair,
    MaskRules,
    Source,
    SourceExample,
    SourceListing,
    SourceOptions,
)
from petseg.losses.base import Loss
from petseg.metrics.base import Metric
from petseg.models.decoders.base import Decoder
from petseg.models.encoders.base import Encoder, EncoderOptions, EncoderSpec, Level
from petseg.models.layers.upsampling import upsample
from petseg.registry import DECODERS, ENCODERS, LOSSES, METRICS, SOURCES


def build_two_stages(options: EncoderOptions) -> Encoder:
    """Two strided convolutions; features of both signs."""
    stages, levels, image = {}, {}, options.image()
    inputs, x = image, keras.ops.cast(image, "float32") / 127.5 - 1
    for index, (name, factor) in enumerate((("fine", 4), ("coarse", 8)), 1):
        x = keras.layers.Conv2D(
            8 * index,
            factor,
            strides=factor,
            kernel_initializer=keras.initializers.GlorotUniform(options.seed + index),
            name=f"toy_{name}",
        )(x)
        stages[name] = keras.Model(inputs, x, name=name)
        stride = 4 if name == "fine" else 32
        levels["P2" if name == "fine" else "P5"] = Level(name, stride, 8 * index)
        inputs = x = keras.Input(x.shape[1:])
    return Encoder("toy_encoder", levels, stages, lambda image: image / 127.5 - 1, "to -1..1")


def build_sum(features, levels, options):
    """Scores of two levels, added at the size of the finer one."""
    deep, fine = features.values()
    factor = levels["P5"].stride // levels["P2"].stride
    scores = upsample(keras.layers.Conv2D(8, 1, name="deep")(deep), factor, 8, "up", options.seed)
    total = keras.layers.Add()([scores, keras.layers.Conv2D(8, 1, name="fine")(fine)])
    stride = levels["P2"].stride
    return upsample(total, stride, options.num_classes, "to_image", options.seed, "float32")


def squared_error_sum(logits: tf.Tensor, class_ids: tf.Tensor) -> tf.Tensor:
    """Squared difference of probabilities and truth, over the pixels that count."""
    truth = tf.one_hot(class_ids, logits.shape[-1])  # an ignored pixel is of no class
    error = tf.reduce_sum(tf.square(tf.nn.softmax(logits) - truth), -1)
    return tf.reduce_sum(error * tf.reduce_sum(truth, -1))


def least_iou(confusion: np.ndarray) -> float:
    """The IoU of the worst class that is present."""
    right = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - right
    return float((right[union > 0] / union[union > 0]).min())


def list_numbered(options: SourceOptions) -> SourceListing:
    """raw_dir/N.png with its mask N_mask.png; every fourth one is for validation."""
    examples = []
    for path in sorted(Path(options.raw_dir).glob("*_mask.png")):
        image = path.with_name(path.name.replace("_mask", ""))
        split = "validation" if int(image.stem) % 4 == 0 else "train"
        pair = FilePair(stored_file(str(image)), stored_file(str(path)))
        examples.append(SourceExample(image.stem, split, pair))
    rules = MaskRules({0: "left", 1: "right"})
    return SourceListing(tuple(examples), (), rules, ("none",), "every fourth is for validation")


ENCODERS.register("toy_encoder", EncoderSpec(("fine", "coarse"), build_two_stages))
DECODERS.register("toy_decoder", Decoder(("P5", "P2"), build_sum))
LOSSES.register("squared_error", Loss(squared_error_sum, "pixel"))
METRICS.register("least_iou", Metric(least_iou, "metrics/least_iou"))
SOURCES.register("numbered", Source(list_numbered))
