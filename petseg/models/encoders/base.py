"""What an encoder is: stages, one after the other, whose outputs are levels for decoders.

A stage ends where a single tensor passes on, so that everything before it can be computed
once, stored, and resumed from (the feature cache), or be frozen.

Batch normalisation in an encoder always runs with its stored statistics, also while its
stage is trained (gamma and beta may move, the moving averages never do): an example then
does not depend on its batch, on replicas or on microbatches.
"""

import dataclasses
from collections.abc import Callable, Mapping

import keras

from petseg.errors import UserError
from petseg.image_size import ImageSize, sides_of

IMAGE = "image"  # what the first stage takes; the key of images among features
IMAGE_LEVEL = "P0"
IMAGE_CHANNELS = 3


@dataclasses.dataclass(frozen=True)
class Level:
    """A level of an encoder's feature pyramid.

    Attributes:
      stage: The stage whose output it is.
      stride: Pixels of the image per feature, in rows and columns: 2**n for level 'Pn', but no
        more than EncoderOptions.output_stride.
      channels: Number of channels.
      scale: Root mean square of the features over natural images. Decoders divide by it, so
        that one learning rate fits all levels; 1 where the features are normalised.
      non_negative: Whether no feature is below 0, as after a ReLU.
    """

    stage: str
    stride: int
    channels: int
    scale: float = 1.0
    non_negative: bool = False


@dataclasses.dataclass(frozen=True)
class EncoderOptions:
    """What an encoder is built with.

    Attributes:
      image_size: Height and width of the images in pixels, multiples of 32.
      weights: 'imagenet' (Keras downloads them), 'none' (random), or the path of a Keras
        weights file without the top.
      width: Channels of the first stage, by which all others grow or shrink; 0 is the published
        network's.
      convs: Convolutions of each stage, or residual blocks; () is the published network's.
      seed: Seed of random weights.
      output_stride: 32, or 16: the deepest level then has the stride of the one before it, by
        dilated convolutions with the same weights (Chen et al. 2018, DeepLab).
    """

    image_size: ImageSize
    weights: str = "none"
    width: int = 0
    convs: tuple[int, ...] = ()
    seed: int = 0
    output_stride: int = 32

    def image(self) -> keras.KerasTensor:
        """The first stage's input: uint8 RGB [batch, height, width, 3]."""
        shape = (*sides_of(self.image_size), IMAGE_CHANNELS)
        return keras.Input(shape, dtype="uint8", name=IMAGE)


def convs_of(
    options: EncoderOptions, name: str, published: tuple[int, ...], of_what: str
) -> tuple[int, ...]:
    """The convolutions or blocks of each part of a network.

    Args:
      options: Of these `convs` counts.
      name: The encoder's.
      published: What () stands for.
      of_what: What each number is of, for the message.

    Raises:
      UserError: There are too few or too many numbers.
    """
    convs = options.convs or published
    if len(convs) != len(published):
        raise UserError(
            f"config.model.encoder_convs={convs} must hold {len(published)} numbers for {name}, "
            f"one for {of_what}"
        )
    return tuple(convs)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A built encoder.

    Attributes:
      name: Its name in the registry.
      levels: 'P1', 'P2', ... -> level, from shallow to deep. An encoder with maximum pooling
        also has 'C1', 'C2', ...: what 'P1', 'P2', ... are pooled from, at half their stride.
      stages: Stage -> model, in the order of computation. The first takes uint8 RGB images
        [batch, height, width, 3] and preprocesses them itself; each other one takes
        the output of the stage before it.
      preprocess: uint8 RGB images -> what the weights expect; part of the first stage.
      preprocessing: The same in words; feature caches are keyed by it.
    """

    name: str
    levels: Mapping[str, Level]
    stages: Mapping[str, keras.Model]
    preprocess: Callable[[keras.KerasTensor], keras.KerasTensor]
    preprocessing: str

    @property
    def variables(self) -> list[keras.Variable]:
        """Every variable, stage by stage."""
        return [variable for stage in self.stages.values() for variable in stage.variables]

    def stage_of(self, variable: keras.Variable) -> str:
        """The stage that a variable belongs to."""
        for name, stage in self.stages.items():
            if any(variable is one for one in stage.variables):
                return name
        raise KeyError(variable.path)


@dataclasses.dataclass(frozen=True)
class EncoderSpec:
    """An encoder before it is built: what the registry ENCODERS holds.

    Attributes:
      stages: Names of the stages, from shallow to deep.
      build: Builds it; raises UserError if the weights cannot be loaded or an option does not
        fit.
    """

    stages: tuple[str, ...]
    build: Callable[[EncoderOptions], Encoder]
