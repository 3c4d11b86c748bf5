import contextlib
import io

import keras
import numpy as np
import pytest
import tensorflow as tf

from petseg.models import cost, summary
from petseg.models.segmentation_model import ModelOptions, build_model
from petseg.registry import DECODERS

# What multiplies, among the operations that TensorFlow's profiler knows.
PRODUCTS = ("Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "MatMul", "BatchMatMulV2")


def profiled_flops(model: keras.Model) -> int:
    """What TensorFlow's profiler counts for one image."""
    specs = [tf.TensorSpec((1, *x.shape[1:]), x.dtype) for x in model.inputs]
    function = tf.function(lambda *x: model(list(x) if len(x) > 1 else x[0], training=False))
    graph = function.get_concrete_function(*specs).graph
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = (
        builder(builder.float_operation())
        .with_empty_output()
        .with_accounted_types([f".*{name}$" for name in PRODUCTS])
        .order_by("float_ops")
        .build()
    )
    options["account_displayed_op_only"] = True
    with contextlib.redirect_stdout(io.StringIO()):
        return tf.compat.v1.profiler.profile(graph, cmd="op", options=options).total_float_ops


def flops(model: keras.Model) -> int:
    counted = [layer.flops for layer in cost.layer_costs(model)]
    assert None not in counted
    return sum(counted)


@pytest.mark.parametrize("decoder", list(DECODERS))
def test_flops_are_those_of_tensorflows_profiler(decoder):
    options = ModelOptions(
        decoder=decoder, encoder_width=2, encoder_convs=(1, 2, 1, 1, 1), decoder_channels=8
    )
    model = build_model(options, num_classes=3, image_size=96, weights="none")
    for part in (*model.encoder.stages.values(), model.decoder):
        counted, profiled = flops(part), profiled_flops(part)
        # TensorFlow computes dilated depthwise convolutions over padding, too.
        if any(map(is_dilated_depthwise, part.layers)):
            assert 0.3 * profiled < counted < profiled
        else:
            assert counted == profiled, part.name
    assert flops(model.decoder) > 0


def is_dilated_depthwise(layer):
    kinds = keras.layers.DepthwiseConv2D | keras.layers.SeparableConv2D
    return isinstance(layer, kinds) and max(layer.dilation_rate) > 1


def test_a_dilated_depthwise_convolution_costs_what_its_kernel_does_at_each_pixel():
    inputs = keras.Input((5, 7, 6))
    x = keras.layers.SeparableConv2D(4, 3, dilation_rate=3, padding="same")(inputs)
    assert flops(keras.Model(inputs, x)) == 2 * (3 * 3 * 6 + 6 * 4) * 5 * 7


def test_flops_of_every_kind_of_layer_are_those_of_the_profiler():
    layers = keras.layers
    inner_inputs = keras.Input((16, 12, 6))
    inner = keras.Model(inner_inputs, layers.Conv2D(4, 3, groups=2, padding="same")(inner_inputs))
    inputs = keras.Input((16, 12, 4))
    x = layers.SeparableConv2D(6, 3, depth_multiplier=2, padding="same")(inputs)
    x = keras.Sequential([layers.Dense(6), layers.ReLU()])(x)
    x = inner(inner(x)[..., :1] * x)
    x = layers.DepthwiseConv2D(3, strides=2, padding="same")(x)
    x = layers.Conv2D(4, 3, dilation_rate=2, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2DTranspose(2, 4, strides=2, padding="same")(x)
    x = layers.Conv2D(2, (1, 3), strides=(1, 2), padding="valid")(x)
    x = keras.ops.matmul(np.ones((9, 5), np.float32), x)
    x = keras.ops.matmul(x, keras.ops.transpose(x, (0, 1, 3, 2)))
    x = layers.Dense(5)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, x)
    # Of grouped convolutions the profiler sees nothing, as Keras compiles them.
    grouped = 2 * 2 * (3 * 3 * 3 * 4) * 16 * 12
    assert flops(model) == profiled_flops(model) + grouped
    assert sum(layer.parameters for layer in cost.layer_costs(model)) == model.count_params()


def test_vgg16_has_its_published_cost():
    model = build_model(ModelOptions(), num_classes=2, image_size=224, weights="none")
    total = sum(flops(stage) for stage in model.encoder.stages.values())
    assert total == pytest.approx(30.7e9, rel=1e-3)


def test_what_cannot_be_counted_is_said():
    class Mixing(keras.layers.Layer):
        def call(self, x):
            return x

    inputs = keras.Input((4, 4, 2))
    x = Mixing()(keras.ops.einsum("bhwc,cd->bhwd", inputs, keras.ops.ones((2, 2))))
    model = keras.Model(inputs, x + 1.0)
    kinds = {type(c.operation).__name__: c.flops for c in cost.layer_costs(model)}
    assert (kinds["Mixing"], kinds["Einsum"], kinds["Add"]) == (None, None, 0)


def test_memory_is_that_of_what_is_trained_and_of_the_features_it_reads():
    options = ModelOptions(decoder="fcn32s", encoder_width=2, encoder_convs=(1, 1, 1, 1, 1))
    float32 = build_model(options, num_classes=2, image_size=64, weights="none")
    pool4, block5, pool5 = 4 * 4 * 16, 4 * 4 * 16, 2 * 2 * 16
    decoder = 2 * 2 * 16 + 2 * 2 * 32 + 64 * 64 * 2  # rescaled, scores, logits
    for trainables, of_encoder in (
        (["decoder"], pool5),
        (["decoder", "block5"], pool4 + block5 + pool5),
    ):
        parts = summary._parts(float32, summary.trained_paths(float32, trainables))
        kept = {part.name: part.kept_bytes for part in parts}
        assert kept.pop("decoder") == 4 * decoder
        assert sum(kept.values()) == 4 * of_encoder
    half = build_model(
        options, num_classes=2, image_size=64, weights="none", precision="mixed_bfloat16"
    )
    *_, decoder_part = summary._parts(half, set())
    assert decoder_part.kept_bytes == 2 * (decoder - 64 * 64 * 2) + 4 * 64 * 64 * 2
