"""What a decoder is: a function of an encoder's levels that gives logits.

A decoder may not hold state that training does not move (batch normalisation's moving
averages, Keras's dropout with its random state): petseg trains weights alone, and what an
example gives may not depend on its batch or its replica. GroupNormalization does what batch
normalisation is for; the setting model.dropout_rate drops channels of the features.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import keras

from petseg.errors import UserError
from petseg.image_size import ImageSize, sides_of
from petseg.models.encoders.base import IMAGE_LEVEL, Level
from petseg.registry import ENCODERS


@dataclasses.dataclass(frozen=True)
class DecoderOptions:
    """What a decoder is built with.

    Attributes:
      num_classes: Logits of each pixel.
      channels: Width of the decoder; see the decoder.
      seed: Seed of the initial weights.
    """

    num_classes: int
    channels: int = 32
    seed: int = 0


# Features by level, the levels' specifications by name, options -> logits
# [batch, height, width, classes], float32 whatever the precision.
BuildDecoder = Callable[
    [Mapping[str, keras.KerasTensor], Mapping[str, Level], DecoderOptions], keras.KerasTensor
]


@dataclasses.dataclass(frozen=True)
class Decoder:
    """A decoder before it is built: what the registry DECODERS holds.

    Attributes:
      levels: The levels that it reads, from deep to shallow; IMAGE_LEVEL is the image itself.
      build: Builds its layers.
      output_stride: Of the encoder, see EncoderOptions.
      needs_images: Whether features as large as images are read, which no cache should hold.
    """

    levels: tuple[str, ...]
    build: BuildDecoder
    output_stride: int = 32
    needs_images: bool = False


def build_decoder(
    name: str,
    decoder: Decoder,
    levels: Mapping[str, Level],
    image_size: ImageSize,
    options: DecoderOptions,
) -> keras.Model:
    """Builds a decoder on an encoder's levels.

    Args:
      name: Its name in the registry, for messages.
      decoder: What to build.
      levels: Of the encoder.
      image_size: Height and width of the images, in pixels.
      options: See DecoderOptions.

    Returns:
      A model: a list of features, one for each of decoder.levels, float32 or the policy's
      dtype [batch, height / stride, width / stride, channels], of IMAGE_LEVEL uint8 -> logits.

    Raises:
      UserError: The encoder lacks a level, or the decoder has state that never moves.
    """
    if missing := [level for level in decoder.levels if level not in levels]:
        theirs = ", ".join(level for level in levels if level != IMAGE_LEVEL)
        raise UserError(
            f"config.model.decoder={name} reads level {missing[0]}, which this encoder does not "
            f"have: it has {theirs}{_what_fits(missing[0])}"
        )
    read = {level: levels[level] for level in decoder.levels}
    height, width = sides_of(image_size)
    features = {
        level: keras.Input(
            (height // spec.stride, width // spec.stride, spec.channels),
            dtype="uint8" if level == IMAGE_LEVEL else None,
            name=level,
        )
        for level, spec in read.items()
    }
    logits = decoder.build(features, read, options)
    shape, expected = tuple(logits.shape[1:]), (height, width, options.num_classes)
    if shape != expected or logits.dtype != "float32":
        raise UserError(
            f"config.model.decoder={name} gives {logits.dtype} {shape}; logits must be float32 "
            f"{expected}"
        )
    model = keras.Model(list(features.values()), logits, name="decoder")
    _refuse_unmoved_state(name, model)
    return model


def _what_fits(level: str) -> str:
    """Which encoders have a level that others lack by their nature."""
    pool, stage = f"pool{level[1:]}", f"stage{level[1:]}"
    stages, reason = {pool, stage}, ""
    if level.startswith("C"):
        stages = {pool}
        reason = "it unpools by where the encoder's max pooling found its maxima, so "
    fitting = [encoder for encoder, spec in ENCODERS.items() if stages.intersection(spec.stages)]
    if not fitting:
        return ""
    return f"; {reason}config.model.encoder must be one of {', '.join(fitting)}"


def _refuse_unmoved_state(name: str, model: keras.Model) -> None:
    for layer, variable in unmoved_state(model):
        raise UserError(
            f"config.model.decoder={name}: layer '{layer.name}' ({type(layer).__name__}) keeps "
            f"'{variable.name}', which training would never move; use GroupNormalization for "
            "normalisation, and config.model.dropout_rate for dropout"
        )


def unmoved_state(model: keras.Model) -> Iterator[tuple[keras.Layer, keras.Variable]]:
    """Variables that no gradient moves, each with the layer that it belongs to."""
    for layer in model._flatten_layers(include_self=False, recursive=True):
        of_sublayers = {id(v) for inner in layer._layers for v in inner.variables}
        for variable in layer.non_trainable_variables:
            if id(variable) not in of_sublayers:
                yield layer, variable
