"""A model's layers as a table for people."""

import math
from collections.abc import Collection, Iterable

import keras

from petseg.models.vgg16_skip import SkipModel


def describe_model(model: SkipModel, vgg16: keras.Model, trained: Collection[str]) -> str:
    """Two tables: VGG16 as it comes, and the skip-layer model built on it.

    Args:
      model: the skip-layer model.
      vgg16: a VGG16 of the same shape, up to its last pool.
      trained: paths of the weights that training moves.
    """
    # The head's inputs are the backbone's pools, which stand in the table already.
    own = [layer for layer in model.head.layers if not isinstance(layer, keras.layers.InputLayer)]
    count = model.backbone.count_params() + model.head.count_params()
    moving = sum(math.prod(v.shape) for v in model.variables if v.path in trained)
    return "\n".join(
        [
            f"VGG16 without its top: {vgg16.count_params():,} parameters",
            *_rows(vgg16.layers, None),
            "",
            f"skip-layer model: {count:,} parameters, {moving:,} of them trained",
            *_rows([layer for layer in vgg16.layers if layer.count_params()], trained),
            *_rows(own, trained)[1:],
        ]
    )


def _rows(layers: Iterable[keras.Layer], trained: Collection[str] | None) -> list[str]:
    rows = [f"  {'layer':<14}{'output':<20}{'parameters':>12}"]
    for layer in layers:
        shape = " x ".join(str(side) for side in layer.output.shape[1:])
        count, state = layer.count_params(), ""
        if count and trained is not None:
            state = "trained" if layer.variables[0].path in trained else "frozen"
        row = f"  {layer.name:<14}{shape:<20}{count:>12,}  {state}"
        rows.append(row.rstrip())
    return rows
