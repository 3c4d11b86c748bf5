"""A model's layers as boxes and arrows, laid out by graphviz's program `dot`."""

import dataclasses
import io
import subprocess
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import keras
from PIL import Image

from petseg.errors import UserError
from petseg.models import cost
from petseg.models.cost import LayerCall
from petseg.models.encoders.base import IMAGE
from petseg.models.segmentation_model import DECODER, SegmentationModel
from petseg.models.summary import trained_paths

_DPI = 72
_COLOURS = 32  # a palette makes the files a third as large
_NO_WEIGHTS, _FROZEN, _TRAINED = "white", "#cfe2f3", "#fce5cd"
_LEGEND = "blue: frozen weights; orange: trained weights; white: none"
_SHORT = {"BatchNormalization": "batch norm", "GroupNormalization": "group norm"}


@dataclasses.dataclass
class _Box:
    """Layers that are drawn as one box: each but the first only changes values.

    Attributes:
      layers: The layers.
      shape: Of the output, without the batch.
    """

    layers: list[keras.Operation]
    shape: tuple[int, ...]


def draw_model(
    model: SegmentationModel, decoder_name: str, trainables: Iterable[str], folder: str
) -> list[Path]:
    """Draws the encoder alone, and with its decoder.

    Args:
      model: The model.
      decoder_name: Of the registry.
      trainables: What the stages of the run train; see SegmentationModel.trainable_weights.
      folder: Where ENCODER.png and ENCODER_DECODER.png are written; made if it is absent.

    Returns:
      The files.

    Raises:
      UserError: There is no program `dot`, it failed, or the folder cannot be made.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--draw_model_to: no folder {folder}: {error.strerror}") from error
    name, trained = model.encoder.name, trained_paths(model, trainables)
    texts = {
        f"{name}.png": describe_diagram(model, f"encoder {name}", trained, has_decoder=False),
        f"{name}_{decoder_name}.png": describe_diagram(
            model, f"encoder {name}, decoder {decoder_name}", trained
        ),
    }
    return [_render(text, Path(folder) / file) for file, text in texts.items()]


def describe_diagram(
    model: SegmentationModel, title: str, trained: Collection[str], *, has_decoder: bool = True
) -> str:
    """A diagram in graphviz's language: a box for each layer, a frame for each stage.

    Layers that only change values, such as norms and activations, share the box of the layer
    before them.

    Args:
      model: The model.
      title: Above the diagram.
      trained: Paths of the variables that training moves.
      has_decoder: Whether the decoder is drawn, too.
    """
    diagram = _Diagram(title, trained)
    x = next(iter(model.encoder.stages.values())).input
    outputs = {IMAGE: diagram.add_input("images", x)}
    for name, stage in model.encoder.stages.items():
        (x,) = diagram.add_model(name, stage, [x])
        outputs[name] = x
    if has_decoder:
        features = [outputs[level.stage] for level in model.levels.values()]
        logits, *_ = diagram.add_model(DECODER, model.decoder, features, list(model.levels))
        if head := model.class_masks:
            image_class = diagram.add_input("image's class, if known", head.inputs[-1])
            taken = [features[0], logits, image_class]
            logits, of_class, boxes = diagram.add_model("class_masks", head, taken)
            diagram.add_output("logits of the image's class", of_class)
            diagram.add_output("boxes", boxes)
        diagram.add_output("logits", logits)
        if model.presence:
            presence = diagram.add_model("presence", model.presence, features[:1])
            diagram.add_output("logits of presence", presence[0])
    return diagram.text()


class _Diagram:
    """Collects a diagram's lines; a tensor is known by the box that gives it."""

    def __init__(self, title: str, trained: Collection[str]):
        self._lines = [
            "digraph {",
            f"label={_quoted(f'{title}{chr(10)}{_LEGEND}')} labelloc=t fontname=Helvetica",
            "ranksep=0.3",
            'node [shape=box style="filled,rounded" fillcolor=white fontname=Helvetica '
            "fontsize=12 margin=0.12]",
            "edge [fontname=Helvetica fontsize=12]",
        ]
        self._trained = trained
        self._givers: dict[int, str] = {}
        self._kept: list[keras.KerasTensor] = []  # an id is only that of a living tensor
        self._count = 0

    def add_input(self, name: str, tensor: keras.KerasTensor) -> keras.KerasTensor:
        self._give([tensor], self._add_node(f"{name}\n{_shown(tensor.shape[1:])}"))
        return tensor

    def add_output(self, name: str, tensor: keras.KerasTensor) -> None:
        node = self._add_node(f"{name}\n{_shown(tensor.shape[1:])}")
        self._lines.append(f"{self._givers[id(tensor)]} -> {node}")

    def add_model(
        self,
        name: str,
        model: keras.Model,
        inputs: Sequence[keras.KerasTensor],
        labels: Sequence[str] = (),
    ) -> list[keras.KerasTensor]:
        """A frame with a model's layers; gives its outputs.

        Args:
          name: Above the frame.
          model: The model.
          inputs: Known tensors that it takes.
          labels: Of the arrows that come from them.
        """
        labelled = dict(zip(map(id, inputs), labels, strict=False))
        calls, outputs = _all_calls(model, inputs)
        self._lines += [
            f"subgraph cluster_{self._count} {{",
            f'label={_quoted(name)} labeljust=l color=grey style="rounded" fontname="Helvetica"',
        ]
        edges = []
        for box, taken, given in _boxes(calls, outputs):
            node = self._add_node(_label(box), self._colour(box.layers))
            for tensor in taken:
                label = labelled.get(id(tensor))
                suffix = f" [label={_quoted(f'  {label}')}]" if label else ""
                edges.append(f"{self._givers[id(tensor)]} -> {node}{suffix}")
            self._give(given, node)
        self._lines += ["}", *edges]
        return outputs

    def text(self) -> str:
        return "\n".join([*self._lines, "}"]) + "\n"

    def _add_node(self, label: str, colour: str = _NO_WEIGHTS) -> str:
        self._count += 1
        self._lines.append(f'n{self._count} [label={_quoted(label)} fillcolor="{colour}"]')
        return f"n{self._count}"

    def _give(self, tensors: Iterable[keras.KerasTensor], node: str) -> None:
        for tensor in tensors:
            self._givers[id(tensor)] = node
            self._kept.append(tensor)

    def _colour(self, layers: Sequence[keras.Operation]) -> str:
        paths = [v.path for one in layers if isinstance(one, keras.Layer) for v in one.variables]
        if not paths:
            return _NO_WEIGHTS
        return _TRAINED if any(path in self._trained for path in paths) else _FROZEN


def _all_calls(
    model: keras.Model, inputs: Sequence[keras.KerasTensor]
) -> tuple[list[LayerCall], list[keras.KerasTensor]]:
    calls, walk = [], cost.layer_calls(model, inputs)
    while True:
        try:
            calls.append(next(walk))
        except StopIteration as end:
            return calls, end.value


def _boxes(
    calls: Sequence[LayerCall], outputs: Sequence[keras.KerasTensor]
) -> list[tuple[_Box, list[keras.KerasTensor], list[keras.KerasTensor]]]:
    """Boxes, with the tensors that they take, and those that come from any of their layers."""
    readers = Counter(id(tensor) for _, taken, _ in calls for tensor in taken)
    readers.update(id(tensor) for tensor in outputs)
    boxes, ends = [], {}
    for operation, taken, given in calls:
        before = ends.get(id(taken[0]))
        if (
            before is not None
            and len(taken) == len(given) == 1
            and readers[id(taken[0])] == 1
            and taken[0].shape == given[0].shape
            and not _has_kernel(operation)
        ):
            before[0].layers.append(operation)
            before[2].extend(given)
            ends[id(given[0])] = before
            continue
        box = (_Box([operation], tuple(given[0].shape[1:])), taken, list(given))
        boxes.append(box)
        ends |= {id(tensor): box for tensor in given}
    return boxes


def _has_kernel(operation: keras.Operation) -> bool:
    return isinstance(operation, keras.Layer) and any(
        len(weight.shape) > 1 for weight in operation.weights
    )


def _label(box: _Box) -> str:
    kinds = [kind for layer in box.layers for kind in _kinds(layer)]
    return f"{box.layers[0].name}\n{', '.join(kinds)}\n{_shown(box.shape)}"


def _kinds(layer: keras.Operation) -> list[str]:
    """What a layer is: its class, its window, and its activation."""
    kind = type(layer).__name__
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    if isinstance(layer, keras.layers.Activation):
        return [activation]
    window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
    words = [_SHORT.get(kind, kind)]
    if isinstance(window, tuple):
        words.append(_shown(window))
        for name, value in (("stride", "strides"), ("dilation", "dilation_rate")):
            steps = getattr(layer, value, 1)
            steps = steps if isinstance(steps, tuple) else (steps,)
            if max(steps) > 1:
                words.append(f"{name} {max(steps)}")
    return [" ".join(words), *([] if activation == "linear" else [activation])]


def _shown(sides: Iterable[int | None]) -> str:
    return " x ".join(str(side) for side in sides)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _render(text: str, path: Path) -> Path:
    """Writes a diagram as PNG."""
    try:
        done = subprocess.run(
            ["dot", "-Tpng", f"-Gdpi={_DPI}"], input=text.encode(), capture_output=True, check=True
        )
    except FileNotFoundError as error:
        raise UserError(
            "drawing a model needs the program `dot`, which there is none of: install graphviz"
        ) from error
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.decode(errors="replace").split())[:200]
        raise UserError(f"{path}: graphviz's `dot` failed: {reason}") from error
    with Image.open(io.BytesIO(done.stdout)) as image:
        image.convert("RGB").quantize(_COLOURS).save(path, optimize=True)
    return path
