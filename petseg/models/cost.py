"""What a model's layers cost: parameters, floating-point operations, and their outputs' bytes.

Operations are counted from the layers' shapes, as papers do: two for each multiplication with
its addition, in convolutions, dense layers and products of matrices. TensorFlow's profiler, with
which a test compares them, counts no grouped convolution, and of dilated depthwise ones also the
padding that their implementation needs.
"""

import dataclasses
import math
from collections.abc import Callable, Generator, Sequence

import keras
import tensorflow as tf

_Shape = tuple[int | None, ...]
LayerCall = tuple[keras.Operation, list[keras.KerasTensor], list[keras.KerasTensor]]


def _at_each_output(layer: keras.Layer, _: _Shape, output: _Shape) -> int:
    """Every weight of the kernels meets every position of the output."""
    kernels = [weight for weight in layer.weights if len(weight.shape) > 1]
    return 2 * sum(math.prod(kernel.shape) for kernel in kernels) * math.prod(output[1:-1])


def _at_each_input(layer: keras.Layer, inputs: _Shape, _: _Shape) -> int:
    return 2 * math.prod(layer.kernel.shape) * math.prod(inputs[1:-1])


_FLOPS: dict[type, Callable[[keras.Layer, _Shape, _Shape], int]] = {
    keras.layers.Conv2DTranspose: _at_each_input,
    keras.layers.Conv2D: _at_each_output,
    keras.layers.DepthwiseConv2D: _at_each_output,
    keras.layers.SeparableConv2D: _at_each_output,
    keras.layers.Dense: _at_each_output,
}
# Functions of keras.ops that multiply and add; all but the first are unknown here.
_MATMUL = "Matmul"
_PRODUCTS = {_MATMUL, "Conv", "ConvTranspose", "DepthwiseConv", "SeparableConv", "Einsum"}
_PRODUCTS |= {"Dot", "Tensordot", "Vdot", "Inner"}


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """What one layer costs, or one function of keras.ops between layers.

    Attributes:
      operation: The layer.
      shape: Of its output, without the batch.
      parameters: Number of its weights.
      flops: Floating-point operations for one image; None if it is unknown how many.
      output_bytes: Size of its output for one image.
    """

    operation: keras.Operation
    shape: _Shape
    parameters: int
    flops: int | None
    output_bytes: int


def layer_costs(model: keras.Model) -> list[LayerCost]:
    """The costs of a model's layers, those of nested models included, without its inputs.

    A layer that is called several times is listed as often, its parameters the first time.
    """
    costs, seen = [], set()
    for operation, inputs, outputs in layer_calls(model):
        first = operation not in seen and isinstance(operation, keras.Layer)
        seen.add(operation)
        costs.append(
            LayerCost(
                operation,
                tuple(outputs[0].shape[1:]),
                operation.count_params() if first else 0,
                _flops(operation, tuple(inputs[0].shape), tuple(outputs[0].shape)),
                sum(output_bytes(output) for output in outputs),
            )
        )
    return costs


def output_bytes(tensor: keras.KerasTensor) -> int:
    """Size of one example of a tensor."""
    return math.prod(tensor.shape[1:]) * tf.as_dtype(tensor.dtype).size


def layer_calls(
    model: keras.Model, inputs: Sequence[keras.KerasTensor] = ()
) -> Generator[LayerCall, None, list[keras.KerasTensor]]:
    """Each layer with the tensors that it takes and gives, in the order of computation.

    Nested models are taken apart: their layers take the tensors of the model around them.

    Args:
      model: The model.
      inputs: What the model around it calls it with.

    Returns:
      At its end: the model's outputs.
    """
    known = dict(zip(map(id, model.inputs), inputs or model.inputs, strict=True))
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            taken = [known.get(id(tensor), tensor) for tensor in node.input_tensors]
            operation = node.operation
            if isinstance(operation, keras.Sequential):
                operation = operation._functional
            if hasattr(operation, "_nodes_by_depth"):
                given = yield from layer_calls(operation, taken)
                known |= zip(map(id, node.outputs), given, strict=True)
            else:
                yield operation, taken, list(node.outputs)
    return [known.get(id(tensor), tensor) for tensor in model.outputs]


def _flops(operation: keras.Operation, inputs: _Shape, output: _Shape) -> int | None:
    """Operations of a layer for one image; 0 for what is no product, None if unknown."""
    for kind, count in _FLOPS.items():
        if isinstance(operation, kind):
            return count(operation, inputs, output)
    if type(operation).__name__ == _MATMUL:
        # A factor may be a constant, which is no input; each call has its own operation.
        left = operation._inbound_nodes[0].arguments.args[0]
        return 2 * left.shape[-1] * math.prod(output[1:])
    if not isinstance(operation, keras.Layer):
        return None if type(operation).__name__ in _PRODUCTS else 0
    has_kernel = any(len(weight.shape) > 1 for weight in operation.weights)
    is_of_keras = type(operation).__module__.startswith("keras.")
    return 0 if is_of_keras and not has_kernel else None
