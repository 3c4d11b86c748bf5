"""A model's layers and what they cost, as tables for people."""

import dataclasses
import math
from collections.abc import Collection, Iterable, Sequence

from petseg.models import cost
from petseg.models.cost import LayerCost
from petseg.models.encoders.base import IMAGE
from petseg.models.segmentation_model import DECODER, SegmentationModel

_NOTE = (
    "FLOPs are those of one image's forward pass: two for each multiplication with its addition,",
    "in convolutions, dense layers and products of matrices; pooling, norms, activations and sums",
    "are not counted. Memory is that of the layers' outputs for a batch; kept for the backward",
    "pass are those of the stages that training moves and of all after them, and the features",
    "that they read. Weights, gradients and the optimizer's state come on top.",
)


@dataclasses.dataclass(frozen=True)
class _Part:
    """A stage of the encoder, or the decoder.

    Attributes:
      name: Its name.
      layers: What its layers cost.
      kept_bytes: What of one image is kept for the backward pass.
    """

    name: str
    layers: Sequence[LayerCost]
    kept_bytes: int

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def flops(self) -> int:
        return sum(layer.flops or 0 for layer in self.layers)


def describe_model(
    model: SegmentationModel, decoder_name: str, trainables: Iterable[str], batch_size: int
) -> str:
    """Tables of the layers of encoder and decoder, with their cost, and totals by stage.

    Args:
      model: The model.
      decoder_name: Of the registry.
      trainables: What the stages of the run train; see SegmentationModel.trainable_weights.
      batch_size: Images of a training step.
    """
    trained = trained_paths(model, trainables)
    *stages, decoder = _parts(model, trained)
    of_encoder = [layer for stage in stages for layer in stage.layers]
    total = sum(math.prod(v.shape) for v in model.variables)
    moved = sum(math.prod(v.shape) for v in model.variables if v.path in trained)
    uncounted = {
        type(layer.operation).__name__
        for part in (*stages, decoder)
        for layer in part.layers
        if layer.flops is None
    }
    lines = [
        f"encoder {model.encoder.name}: {sum(s.parameters for s in stages):,} parameters",
        *_rows(of_encoder, trained, batch_size),
        "",
        f"decoder {decoder_name} on {', '.join(model.levels)}: {decoder.parameters:,} parameters",
        *_rows(decoder.layers, trained, batch_size),
        "",
        *_totals([*stages, decoder], batch_size),
        "",
        *_NOTE,
        *([f"Not counted, as unknown: {', '.join(sorted(uncounted))}."] if uncounted else []),
        "",
        f"model: {total:,} parameters, {moved:,} of them trained",
    ]
    return "\n".join(lines)


def trained_paths(model: SegmentationModel, trainables: Iterable[str]) -> set[str]:
    """Paths of the weights that any of a run's stages trains."""
    return {weight.path for name in trainables for weight in model.trainable_weights(name)}


def _parts(model: SegmentationModel, trained: Collection[str]) -> list[_Part]:
    """The encoder's stages as far as the decoder needs them, and the decoder."""
    stages, read = model.encoder.stages, set(model.level_stages) - {IMAGE}
    order = list(stages)
    is_moved = [any(v.path in trained for v in stage.variables) for stage in stages.values()]
    first = is_moved.index(True) if any(is_moved) else len(order)
    if 0 < first < len(order):
        read.add(order[first - 1])
    parts = []
    for index, (name, stage) in enumerate(stages.items()):
        layers = cost.layer_costs(stage)
        kept = cost.output_bytes(stage.output) if name in read else 0
        if index >= first:
            kept = sum(layer.output_bytes for layer in layers)
        parts.append(_Part(name, layers, kept))
    deepest = max((order.index(level) for level in read), default=-1)
    layers = [layer for head in model.heads for layer in cost.layer_costs(head)]
    kept = sum(layer.output_bytes for layer in layers)
    return [*parts[: deepest + 1], _Part(DECODER, layers, kept)]


def _rows(layers: Sequence[LayerCost], trained: Collection[str], batch_size: int) -> list[str]:
    width = max([18, *(len(layer.operation.name) for layer in layers)]) + 2
    memory = f"MiB of {batch_size}"
    rows = [f"  {'layer':<{width}}{'output':<20}{'parameters':>12}{'MFLOPs':>11}{memory:>11}"]
    for layer in layers:
        state = ""
        if layer.parameters:
            path = layer.operation.variables[0].path
            state = "trained" if path in trained else "frozen"
        flops = "?" if layer.flops is None else f"{layer.flops / 1e6:,.1f}"
        shape = " x ".join(str(side) for side in layer.shape)
        size = _mebibytes(layer.output_bytes * batch_size)
        row = f"{layer.operation.name:<{width}}{shape:<20}{layer.parameters:>12,}{flops:>11}{size}"
        rows.append(f"  {row}  {state}".rstrip())
    return rows


def _totals(parts: Sequence[_Part], batch_size: int) -> list[str]:
    *stages, decoder = parts
    encoder = [layer for stage in stages for layer in stage.layers]
    rows = [
        *stages,
        _Part("encoder", encoder, sum(stage.kept_bytes for stage in stages)),
        decoder,
        _Part("model", [*encoder, *decoder.layers], sum(part.kept_bytes for part in parts)),
    ]
    width = max(18, *(len(part.name) for part in rows)) + 2
    kept = f"MiB of {batch_size} kept"
    return [
        f"  {'stage':<{width}}{'parameters':>12}{'GFLOPs':>11}{kept:>16}",
        *(
            f"  {part.name:<{width}}{part.parameters:>12,}{part.flops / 1e9:>11,.3f}"
            f"{_mebibytes(part.kept_bytes * batch_size):>16}"
            for part in rows
        ),
    ]


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:>11,.1f}"
