"""A model's layers as a table for people."""

from collections.abc import Iterable

import keras

from petseg.modeling.vgg16_skip import SkipModel


def describe_model(model: SkipModel, vgg16: keras.Model, freeze_backbone: bool) -> str:
    """Two tables: VGG16 as it comes, and the skip-layer model built on it.

    Args:
      model: the skip-layer model.
      vgg16: a VGG16 of the same shape, up to its last pool.
      freeze_backbone: whether the head alone is trained.
    """
    head_layers = model.head.layers
    # The head's inputs are the backbone's pools, which stand in the table already.
    own = [layer for layer in head_layers if not isinstance(layer, keras.layers.InputLayer)]
    backbone_state = "frozen" if freeze_backbone else "trained"
    head_count = model.head.count_params()
    backbone_count = model.backbone.count_params()
    trained = head_count if freeze_backbone else head_count + backbone_count
    return "\n".join(
        [
            f"VGG16 without its top: {vgg16.count_params():,} parameters",
            *_rows(vgg16.layers, ""),
            "",
            f"skip-layer model: {backbone_count + head_count:,} parameters, "
            f"{trained:,} of them trained",
            *_rows([layer for layer in vgg16.layers if layer.count_params()], backbone_state),
            *_rows(own, "trained")[1:],
        ]
    )


def _rows(layers: Iterable[keras.Layer], state: str) -> list[str]:
    rows = [f"  {'layer':<14}{'output':<20}{'parameters':>12}"]
    for layer in layers:
        shape = " x ".join(str(side) for side in layer.output.shape[1:])
        count = layer.count_params()
        row = f"  {layer.name:<14}{shape:<20}{count:>12,}  {state if count else ''}"
        rows.append(row.rstrip())
    return rows
