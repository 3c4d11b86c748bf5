"""A model's layers as a table for people."""

import math
from collections.abc import Collection, Iterable

import keras

from petseg.models.segmentation_model import SegmentationModel


def describe_model(model: SegmentationModel, decoder_name: str, trained: Collection[str]) -> str:
    """Tables of the encoder's and the decoder's layers, with their parameters.

    Args:
      model: The model.
      decoder_name: Of the registry.
      trained: Paths of the variables that training moves.
    """
    encoder_layers = [layer for stage in model.encoder.stages.values() for layer in stage.layers]
    total = sum(math.prod(v.shape) for v in model.variables)
    moved = sum(math.prod(v.shape) for v in model.variables if v.path in trained)
    return "\n".join(
        [
            f"encoder {model.encoder.name}: {_count(encoder_layers):,} parameters",
            *_rows(encoder_layers, trained),
            "",
            f"decoder {decoder_name} on {', '.join(model.levels)}: "
            f"{model.decoder.count_params():,} parameters",
            *_rows(model.decoder.layers, trained),
            "",
            f"model: {total:,} parameters, {moved:,} of them trained",
        ]
    )


def _count(layers: Iterable[keras.Layer]) -> int:
    return sum(layer.count_params() for layer in layers)


def _rows(layers: Iterable[keras.Layer], trained: Collection[str]) -> list[str]:
    rows = [f"  {'layer':<20}{'output':<20}{'parameters':>12}"]
    for layer in layers:
        # An input is the output of the stage before.
        if isinstance(layer, keras.layers.InputLayer):
            continue
        shape = " x ".join(str(side) for side in layer.output.shape[1:])
        count, state = layer.count_params(), ""
        if count:
            state = "trained" if layer.variables[0].path in trained else "frozen"
        rows.append(f"  {layer.name:<20}{shape:<20}{count:>12,}  {state}".rstrip())
    return rows
