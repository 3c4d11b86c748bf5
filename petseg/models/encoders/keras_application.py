"""Encoders from keras.applications: a network cut into stages where a single tensor passes.

Stage 'stageN' ends at level 'PN'. Layers keep the names that Keras gives them, so weights
files fit; what a network has behind its deepest level is left out.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from petseg.errors import UserError
from petseg.models.encoders.base import Encoder, EncoderOptions, EncoderSpec, Level
from petseg.models.encoders.weights import load_weights

DILATED_STRIDE = 16
# A residual block has two ReLUs, each of which halves the mean square, and a linear end: with
# 4 ** (1 / 3) it would keep the size, and sums of blocks grow.
_GAIN = 1.5

# A layer, output stride -> a layer to take in its place, with weights of the same sizes; None
# keeps it.
Replace = Callable[[keras.Layer, int], keras.Layer | None]


def keep(_layer: keras.Layer, _output_stride: int) -> None:
    """A Replace that keeps every layer."""


@dataclasses.dataclass(frozen=True)
class Application:
    """A network of keras.applications, and what must be known of it to cut it.

    Attributes:
      name: Its name in the registry.
      title: Its name in keras.applications.
      build: Options, preprocessed images float32 [batch, height, width, 3] -> the network on
        them, without its top and its own preprocessing, with random weights and no dropout.
      ends: The network, options -> the tensors at which the stages end, from shallow to deep.
      levels: 'P1', 'P2', ... -> scale and non_negative of each stage's output; see Level.
      preprocess: See Encoder.
      preprocessing: See Encoder.
      replace: What changes for an output stride.
    """

    name: str
    title: str
    build: Callable[[EncoderOptions, keras.KerasTensor], keras.Model]
    ends: Callable[[keras.Model, EncoderOptions], Sequence[keras.KerasTensor]]
    levels: Mapping[str, tuple[float, bool]]
    preprocess: Callable[[keras.KerasTensor], keras.KerasTensor]
    preprocessing: str
    replace: Replace = keep

    def spec(self) -> EncoderSpec:
        """What the registry holds."""
        return EncoderSpec(tuple(map(_stage_of, self.levels)), self.build_encoder)

    def build_encoder(self, options: EncoderOptions) -> Encoder:
        """The network's stages, with weights.

        Raises:
          UserError: The weights cannot be downloaded, read or fitted, or an option does not
            fit.
        """
        if options.output_stride not in (DILATED_STRIDE, 32):
            raise UserError(
                f"encoder '{self.name}' has an output stride of 32 or {DILATED_STRIDE}, not "
                f"{options.output_stride}"
            )
        model = self.build_model(options)
        ends = dict(zip(self.levels, self.ends(model, options), strict=True))
        levels = {}
        for level, (scale, non_negative) in self.levels.items():
            stride = min(2 ** int(level[1:]), options.output_stride)
            channels = ends[level].shape[-1]
            levels[level] = Level(_stage_of(level), stride, channels, scale, non_negative)
        stages = cut_stages(model, {_stage_of(level): end for level, end in ends.items()})
        return Encoder(self.name, levels, stages, self.preprocess, self.preprocessing)

    def build_model(self, options: EncoderOptions) -> keras.Model:
        """The whole network with weights: uint8 RGB [batch, height, width, 3] -> its output."""
        model = self.build(options, self.preprocess(options.image()))
        if options.weights == "none":
            _initialise(model, options.seed)
        load_weights(model, options.weights, self.title)
        replaced = {
            layer.name: other
            for layer in model.layers
            if (other := self.replace(layer, options.output_stride))
        }
        return _rebuild(model, replaced) if replaced else model


def cut_stages(model: keras.Model, ends: Mapping[str, keras.KerasTensor]) -> dict[str, keras.Model]:
    """Cuts a network into stages.

    Args:
      model: The network, with one input.
      ends: Stage -> the tensor at which it ends, from shallow to deep; nothing behind it reads
        what lies before it.

    Returns:
      Stage -> model: the output of the stage before it, or the network's input -> its output.
    """
    stages, before = {}, model.inputs[0]
    for stage, end in ends.items():
        stages[stage] = keras.Model(before, end, name=stage)
        before = end
    return stages


def changed(layer: keras.Layer, **changes: object) -> keras.Layer:
    """A new layer as another one, but for some of its arguments."""
    return type(layer).from_config({**layer.get_config(), **changes})


def _stage_of(level: str) -> str:
    return f"stage{level[1:]}"


def _initialise(model: keras.Model, seed: int) -> None:
    """Draws every kernel anew; Keras seeds them by chance.

    Frozen statistics are those of no data at first, so kernels must keep the signal's size
    themselves.
    """
    layers = model._flatten_layers(include_self=False, recursive=True)
    for index, layer in enumerate(layers):
        if (kernel := getattr(layer, "kernel", None)) is None:
            continue
        is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        fan_in = math.prod(kernel.shape[: -2 if is_depthwise else -1])
        own_seed = int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
        stddev = math.sqrt(_GAIN / fan_in)
        kernel.assign(keras.initializers.RandomNormal(stddev=stddev, seed=own_seed)(kernel.shape))


def _rebuild(model: keras.Model, replaced: Mapping[str, keras.Layer]) -> keras.Model:
    """The same network with some layers replaced, and with the same weights."""

    def copy(operation: keras.Operation) -> keras.Operation:
        if not isinstance(operation, keras.Layer):
            return operation
        return replaced.get(operation.name) or changed(operation)

    rebuilt = keras.models.clone_model(model, clone_function=copy)
    for layer in model.layers:
        variables = rebuilt.get_layer(replaced.get(layer.name, layer).name).weights
        for variable, value in zip(variables, layer.get_weights(), strict=True):
            variable.assign(value.reshape(variable.shape))
    return rebuilt
