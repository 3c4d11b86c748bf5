"""What every encoder promises, and each against keras.applications."""

import functools

import keras
import numpy as np
import pytest
from testing.encoders import (
    APPLICATIONS,
    TINY,
    build_tiny,
    draw_weights,
    images,
    keras_network,
    key_of,
    outputs_of,
)

from petseg.errors import UserError
from petseg.models.encoders.base import Encoder, EncoderOptions
from petseg.models.encoders.weights import ARRAYS
from petseg.models.segmentation_model import ModelOptions, build_model
from petseg.registry import ENCODERS

# Where a level's features are, by keras.applications' own names; the output if it is "".
ENDS = {
    "resnet50": (
        *("conv1_relu", "conv2_block1_out", "conv3_block1_out", "conv4_block1_out"),
        "conv5_block2_out",
    ),
    "mobilenet_v2": (
        *("block_1_expand_relu", "block_3_expand_relu", "block_6_expand_relu"),
        *("block_13_expand_relu", "block_16_project"),
    ),
    "efficientnet_v2_b0": (
        *("block1a_add", "block2a_project_bn", "block3a_project_bn"),
        *("block5a_project_bn", "block6b_add"),
    ),
    "efficientnet_v2_b3": (
        *("block1b_add", "block2a_project_bn", "block3a_project_bn"),
        *("block5a_project_bn", "block6b_add"),
    ),
}
_ALL_LEVELS = {"P1", "P2", "P3", "P4", "P5"}
SIGNED = {
    "mobilenet_v2": {"P5"},
    "efficientnet_v2_b0": _ALL_LEVELS,
    "efficientnet_v2_b3": _ALL_LEVELS,
    "convnext_tiny": _ALL_LEVELS,
}


@functools.cache
def tiny(name: str, output_stride: int = 32) -> Encoder:
    encoder = build_tiny(name, output_stride=output_stride)
    draw_weights(encoder)
    return encoder


def copy_weights(encoder: Encoder, network: keras.Model) -> None:
    """Gives a network the encoder's weights, by name."""
    values = {key_of(variable): variable.numpy() for variable in encoder.variables}
    assert len(values) == len(encoder.variables)
    for variable in network.weights:
        if key_of(variable) in values:
            # A depthwise kernel is a grouped one whose last two sides are exchanged: one is 1.
            variable.assign(values.pop(key_of(variable)).reshape(variable.shape))
    assert not values


@pytest.mark.parametrize("name", [name for name in APPLICATIONS if name in ENDS])
def test_stages_one_after_the_other_are_the_network_of_keras_bit_by_bit(name):
    encoder = tiny(name)
    without = {"include_preprocessing": False} if "efficient" in name else {}
    network = keras_network(name, **without)
    copy_weights(encoder, network)
    ends = [network.get_layer(end).output for end in ENDS[name]]
    x = images(2, 64)
    expected = keras.Model(network.input, ends)(encoder.preprocess(x), training=False)
    for level, whole in zip(encoder.levels.values(), expected, strict=True):
        np.testing.assert_array_equal(outputs_of(encoder, x)[level.stage], whole)
        assert np.std(whole) > 1e-3


def test_convnexts_stages_are_the_network_of_keras_but_for_rounding():
    """Its grouped convolutions are computed as depthwise ones."""
    encoder = tiny("convnext_tiny")
    network = keras_network("convnext_tiny", include_preprocessing=False)
    copy_weights(encoder, network)
    network.layers[-1].set_weights([variable.numpy() for variable in encoder.variables[-2:]])
    blocks = [f"convnext_tiny_downsampling_block_{index}" for index in range(3)]
    ends = [*(network.get_layer(block).input for block in blocks), network.output]
    x = images(2, 64)
    expected = keras.Model(network.input, ends)(encoder.preprocess(x), training=False)
    for level, whole in zip(encoder.levels.values(), expected, strict=True):
        np.testing.assert_allclose(outputs_of(encoder, x)[level.stage], whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", TINY)
def test_preprocessing_is_kerass_own(name):
    encoder, x = tiny(name), images(2, 64)
    pixels = x.astype(np.float32)
    if name in ("vgg16", "vgg19", "resnet50"):
        expected = keras.applications.vgg16.preprocess_input(pixels)
    elif name in ("mobilenet_v2", "plain"):
        expected = keras.applications.mobilenet_v2.preprocess_input(pixels)
    else:
        # Keras has it in the network: everything up to its first convolution.
        first = keras_network(name).get_layer(
            "convnext_tiny_stem" if "convnext" in name else "stem_conv"
        )
        expected = keras.Model(keras_input_of(first), first.input)(pixels)
    np.testing.assert_allclose(encoder.preprocess(x), expected, rtol=1e-4, atol=1e-4)


def keras_input_of(layer: keras.Layer) -> keras.KerasTensor:
    """The input of the network that a layer lies in."""
    tensor = layer.input
    while tensor._keras_history.operation._inbound_nodes[0].input_tensors:
        tensor = tensor._keras_history.operation._inbound_nodes[0].input_tensors[0]
    return tensor


@pytest.mark.parametrize("name", TINY)
def test_levels_describe_the_outputs_of_their_stages(name):
    encoder, x = tiny(name), images(2, 64)
    assert tuple(encoder.stages) == ENCODERS.get(name).stages
    outputs = outputs_of(encoder, x)
    deepest = [level for level in encoder.levels if level.startswith("P")]
    assert deepest == [f"P{n}" for n in range(6 - len(deepest), 6)]
    for level, spec in encoder.levels.items():
        number = int(level[1:])
        assert spec.stride == 2 ** (number - (level[0] == "C"))
        side = 64 // spec.stride
        output = outputs[spec.stage]
        assert output.shape == (2, side, side, spec.channels)
        assert encoder.stages[spec.stage].output.shape == (None, side, side, spec.channels)
        assert spec.non_negative == (level not in SIGNED.get(name, ()))
        assert (output.min() >= 0) == spec.non_negative


@pytest.mark.parametrize("name", TINY)
def test_every_variable_belongs_to_one_stage(name):
    encoder = tiny(name)
    for stage, model in encoder.stages.items():
        for variable in model.variables:
            assert encoder.stage_of(variable) == stage
    paths = [variable.path for variable in encoder.variables]
    assert len(paths) == len(set(paths)) > 0
    statistics = [path for path in paths if path.endswith(("moving_mean", "moving_variance"))]
    trained = [v.path for model in encoder.stages.values() for v in model.trainable_variables]
    assert sorted([*statistics, *trained]) == sorted(paths)


@pytest.mark.parametrize("name", TINY)
def test_an_example_does_not_depend_on_its_batch(name):
    encoder, x = tiny(name), images(3, 64)
    *_, whole = outputs_of(encoder, x).values()
    for row in range(3):
        *_, alone = outputs_of(encoder, x[row : row + 1]).values()
        np.testing.assert_allclose(alone[0], whole[row], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in TINY if name != "efficientnet_v2_b3"])
def test_weights_are_a_function_of_the_seed_in_any_precision_and_size(name):
    width, convs = TINY[name]

    def build(seed, precision):
        options = ModelOptions(name, "fcn32s", width, convs, decoder_channels=4, seed=seed)
        return build_model(
            options, num_classes=3, image_size=32, weights="none", precision=precision
        )

    half = build(0, "mixed_bfloat16")
    other = build(1, "mixed_float16")
    kernels = [
        [v.numpy() for v in encoder.variables if v.name == "kernel"]
        for encoder in (build_tiny(name), half.encoder, other.encoder)
    ]
    assert len(kernels[0]) >= 5
    for first, same, different in zip(*kernels, strict=True):
        np.testing.assert_array_equal(first, same)
        assert first.dtype == np.float32 and (first != different).all()
    logits = [model(images(2, 32)).numpy() for model in (half, other)]
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in logits)
    features = [*outputs_of(half.encoder, images(2, 32)).values()][-1]
    assert features.dtype == "bfloat16" and 1e-3 < np.std(features.astype(np.float32)) < 1e3


# Where the kernel that no longer strides begins: at an even row, or with 'same' padding before.
FIRST_ROWS = dict.fromkeys(TINY, 0) | {"efficientnet_v2_b0": 1, "efficientnet_v2_b3": 1}


@pytest.mark.parametrize("name", APPLICATIONS)
def test_every_second_feature_of_output_stride_16_is_one_of_stride_32(name):
    """What dilation is: the same kernels on the same grid, at the positions between, too."""
    strided, dilated = tiny(name), build_tiny(name, output_stride=16)
    described = [[(v.path, tuple(v.shape)) for v in e.variables] for e in (strided, dilated)]
    assert described[0] == described[1]
    x = images(2, 64)
    assert dilated.levels["P5"].stride == dilated.levels["P4"].stride == 16
    kept = {}
    for one, other in zip(strided.variables, dilated.variables, strict=True):
        if "se_expand" in one.path and one.name == "kernel":
            # A gate by the mean of the whole map; its other features have another mean.
            kept[one.path] = one.numpy()
            one.assign(np.zeros(one.shape))
        other.assign(one)
    expected, found = outputs_of(strided, x), outputs_of(dilated, x)
    for variable in strided.variables:
        if variable.path in kept:
            variable.assign(kept[variable.path])
    *shallow, (deepest, whole) = found.items()
    for stage, output in shallow:
        np.testing.assert_array_equal(output, expected[stage])
    first = FIRST_ROWS[name]
    assert whole.shape[1:3] == (4, 4)
    np.testing.assert_allclose(
        whole[:, first::2, first::2], expected[deepest], rtol=1e-4, atol=1e-4
    )
    assert np.abs(whole[:, 1 - first :: 2, 1 - first :: 2] - expected[deepest]).max() > 1e-2


@pytest.mark.parametrize("name", ["vgg16", "vgg19", "plain"])
def test_output_stride_16_leaves_out_the_last_step_of_a_pool(name):
    strided, kept = tiny(name), build_tiny(name, output_stride=16)
    for one, other in zip(strided.variables, kept.variables, strict=True):
        other.assign(one)
    expected, found = (outputs_of(encoder, images(2, 64)) for encoder in (strided, kept))
    np.testing.assert_array_equal(found["block5"], expected["block5"])
    np.testing.assert_array_equal(found["pool5"][:, ::2, ::2], expected["pool5"])
    assert kept.levels["P5"].stride == 16 and found["pool5"].shape[1:3] == (4, 4)


@pytest.mark.parametrize("output_stride", [32, 16])
@pytest.mark.parametrize("name", TINY)
def test_no_variables_name_depends_on_what_was_built_before(name, output_stride):
    """Checkpoints hold variables by name."""
    width, convs = TINY[name]
    options = EncoderOptions(32, width=width, convs=convs, output_stride=output_stride)
    first, second = (ENCODERS.get(name).build(options).variables for _ in range(2))
    assert [variable.path for variable in first] == [variable.path for variable in second]


def test_another_output_stride_is_refused():
    with pytest.raises(UserError, match="'resnet50' has an output stride of 32 or 16, not 8"):
        build_tiny("resnet50", output_stride=8)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vgg19", {"convs": (1, 1)}, r"encoder_convs=\(1, 1\) must hold 5 numbers for vgg19"),
        ("resnet50", {"convs": (1,)}, r"must hold 4 numbers for resnet50, one for each stack"),
        ("convnext_tiny", {"convs": (1,)}, r"must hold 4 numbers for convnext_tiny"),
        ("efficientnet_v2_b0", {"convs": (1,)}, r"must hold 6 numbers for efficientnet_v2_b0"),
        ("plain", {"convs": (1,)}, r"must hold 5 numbers for plain"),
        ("mobilenet_v2", {"convs": (1,)}, r"encoder_convs=\(1,\): mobilenet_v2 has a fixed depth"),
        ("mobilenet_v2", {"width": 12}, r"encoder_width=12 must be a multiple of 8"),
        ("efficientnet_v2_b3", {"width": 4}, r"encoder_width=4 must be a multiple of 8"),
        ("plain", {"weights": "imagenet"}, r"imagenet: there are none for encoder 'plain'"),
    ],
)
def test_an_option_that_does_not_fit_is_one_line(name, options, message):
    with pytest.raises(UserError, match=message) as caught:
        ENCODERS.get(name).build(EncoderOptions(32, **options))
    assert "\n" not in str(caught.value)


def test_a_decoder_that_reads_a_level_that_is_not_there_is_refused():
    width, convs = TINY["convnext_tiny"]
    with pytest.raises(UserError) as caught:
        build_model(
            ModelOptions("convnext_tiny", "fcn2s", width, convs),
            num_classes=2,
            image_size=32,
            weights="none",
        )
    assert str(caught.value) == (
        "config.model.decoder=fcn2s reads level P1, which this encoder does not have: it has P2, "
        "P3, P4, P5; config.model.encoder must be one of vgg16, vgg19, resnet50, mobilenet_v2, "
        "efficientnet_v2_b0, efficientnet_v2_b3, plain"
    )


@pytest.mark.long
@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_published_network_is_that_of_keras_applications(name):
    title = {
        "resnet50": "ResNet50",
        "mobilenet_v2": "MobileNetV2",
        "efficientnet_v2_b0": "EfficientNetV2B0",
        "efficientnet_v2_b3": "EfficientNetV2B3",
        "convnext_tiny": "ConvNeXtTiny",
    }[name]
    published = getattr(keras.applications, title)(include_top=False, weights=None)
    shapes = {key_of(variable): tuple(variable.shape) for variable in published.weights}
    encoder = ENCODERS.get(name).build(EncoderOptions(32))
    for variable in encoder.variables:
        assert sorted(shapes.pop(key_of(variable))) == sorted(variable.shape)
    # What is behind the deepest level is left out.
    assert all(
        layer.startswith(("Conv_1", "block_16_project_BN", "top_", "normal")) for layer, _ in shapes
    )
    assert ARRAYS[len(published.weights)] == name
