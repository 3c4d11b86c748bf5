import keras
import numpy as np
import pytest
import tensorflow as tf

from petseg.errors import UserError
from petseg.models.decoders import fcn, fpn
from petseg.models.decoders.base import Decoder, DecoderOptions, build_decoder
from petseg.models.encoders.base import Level
from petseg.models.layers import upsampling
from petseg.models.segmentation_model import ModelOptions, build_model

NARROW = {"encoder_width": 2, "encoder_convs": (1, 1, 1, 1, 1)}


def images(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def build(decoder, channels=32, size=64):
    options = ModelOptions(decoder=decoder, decoder_channels=channels, **NARROW)
    return build_model(options, num_classes=3, image_size=size, weights="none")


@pytest.mark.parametrize("channels", [0, 2, 3, 8])
@pytest.mark.parametrize(
    ("decoder", "strides"),
    [("fcn32s", [32]), ("fcn16s", [2, 16]), ("fcn8s", [2, 2, 8]), ("fcn2s", [2] * 5)],
)
def test_fcn_has_the_levels_strides_and_channels_asked_for(decoder, strides, channels):
    model = build(decoder, channels)
    assert tuple(model.levels) == ("P5", "P4", "P3", "P2", "P1")[: len(strides)]
    layers = model.decoder.layers
    upsampled = [one for one in layers if isinstance(one, keras.layers.Conv2DTranspose)]
    assert [layer.strides for layer in upsampled] == [(stride, stride) for stride in strides]
    scores = [layer for layer in layers if type(layer) is keras.layers.Conv2D]
    assert [layer.kernel_size for layer in scores] == [(1, 1)] * len(strides)
    assert {layer.filters for layer in scores} == {channels or 3}
    assert model(images(2, 64)).shape == (2, 64, 64, 3)


def test_fpn_has_the_strides_and_the_width_asked_for():
    model = build("fpn", 24)
    layers = model.decoder.layers
    upsampled = [layer for layer in layers if isinstance(layer, keras.layers.Conv2DTranspose)]
    assert [(layer.strides[0], layer.filters) for layer in upsampled] == [
        (2, 96), (2, 48), (2, 24), (4, 3)
    ]  # fmt: skip
    laterals = [layer for layer in layers if layer.name.startswith("lateral")]
    convolutions = [layer for layer in laterals if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [192, 96, 48, 24]
    assert model(images(2, 64)).shape == (2, 64, 64, 3)


@pytest.mark.parametrize("channels", [0, 12])
def test_fpn_needs_channels_that_its_groups_divide(channels):
    with pytest.raises(UserError, match=rf"decoder_channels={channels} must be a .* of 8"):
        build("fpn", channels)


def level(number, channels, scale):
    return Level(f"stage{number}", 2**number, channels, scale)


def test_fpn_is_what_numpy_makes_of_its_weights():
    scales = {"P5": 11.6, "P4": 117.0, "P3": 585.0, "P2": 520.0}
    channels = {"P5": 4, "P4": 3, "P3": 3, "P2": 2}
    levels = {name: level(int(name[1]), channels[name], scales[name]) for name in scales}
    decoder = build_decoder("fpn", fpn.FPN, levels, 64, DecoderOptions(2, 16, seed=3))
    rng = np.random.default_rng(0)
    decoder.set_weights(
        [rng.normal(0, 1, w.shape).astype(np.float32) for w in decoder.get_weights()]
    )
    features = [
        rng.normal(0, 30, (2, 64 // one.stride, 64 // one.stride, one.channels))
        .astype(np.float32)
        for one in levels.values()
    ]  # fmt: skip

    def convolve(x, name):
        kernel, *bias = decoder.get_layer(name).get_weights()
        reach = len(kernel) // 2
        padded = np.pad(x, [(0, 0), (reach, reach), (reach, reach), (0, 0)])
        return sum(bias) + sum(
            padded[:, row : row + x.shape[1], column : column + x.shape[2]] @ kernel[row, column]
            for row in range(len(kernel))
            for column in range(len(kernel))
        )

    def normalise(x, name):
        gamma, beta = decoder.get_layer(f"{name}_norm").get_weights()
        groups = x.reshape(*x.shape[:3], 8, -1)
        centred = groups - groups.mean((1, 2, 4), keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean((1, 2, 4), keepdims=True) + 1e-3)
        return np.maximum(scaled.reshape(x.shape) * gamma + beta, 0)

    def up(x, name, stride):
        (kernel,) = decoder.get_layer(name).get_weights()
        side = x.shape[1] * stride
        shape = (len(x), side, side, kernel.shape[2])
        return tf.nn.conv2d_transpose(x, kernel, shape, stride).numpy()

    total = 0
    for name, feature in zip(levels, features, strict=True):
        lateral = normalise(
            convolve(feature / np.float32(scales[name]), f"lateral_{name}"), f"lateral_{name}"
        )
        if name == "P5":
            total = lateral
        else:
            total = normalise(up(total, f"upsample_to_{name}", 2) + lateral, f"sum_{name}")
        for conv in (f"conv_{name}_1", f"conv_{name}_2"):
            total = normalise(convolve(total, conv), conv)
    expected = up(convolve(total, "reduce"), "upsample_to_image", 4)
    np.testing.assert_allclose(decoder(features), expected, rtol=1e-3, atol=1e-3)


def test_fcn_adds_scores_from_deep_to_shallow():
    # With one channel and scores that copy their level, the sum can be made by hand.
    levels = {f"P{n}": level(n, 1, 1.0) for n in (5, 4, 3)}
    decoder = build_decoder("fcn8s", fcn.FCN8S, levels, 64, DecoderOptions(1, 1))
    for name in levels:
        decoder.get_layer(f"score_{name}").set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
    rng = np.random.default_rng(0)
    features = [
        rng.normal(size=(1, 64 // one.stride, 64 // one.stride, 1)).astype(np.float32)
        for one in levels.values()
    ]

    def up(x, stride):
        kernel = upsampling.bilinear_kernel(stride, 1, 1)
        side = x.shape[1] * stride
        return tf.nn.conv2d_transpose(x, kernel, (1, side, side, 1), stride).numpy()

    expected = up(up(up(features[0], 2) + features[1], 2) + features[2], 8)
    np.testing.assert_allclose(decoder(features), expected, rtol=1e-5, atol=1e-5)


def test_levels_are_divided_by_their_scale():
    """An encoder whose features are ten times as large gives the same logits."""
    logits = []
    for factor in (1.0, 10.0):
        levels = {"P5": level(5, 6, 2.0 * factor)}
        decoder = build_decoder("fcn32s", fcn.FCN32S, levels, 32, DecoderOptions(3, 8, seed=1))
        feature = np.random.default_rng(0).normal(size=(2, 1, 1, 6)).astype(np.float32)
        logits.append(decoder([feature * factor]).numpy())
    assert np.abs(logits[0]).max() > 0
    np.testing.assert_allclose(logits[1], logits[0], rtol=1e-5, atol=1e-7)


def test_a_level_that_the_encoder_lacks_is_named():
    with pytest.raises(UserError, match=r"decoder=fcn8s reads level P4, .* it has P5, P3"):
        levels = {"P5": level(5, 1, 1.0), "P3": level(3, 1, 1.0)}
        build_decoder("fcn8s", fcn.FCN8S, levels, 64, DecoderOptions(2))


@pytest.mark.parametrize(
    ("layer", "state"),
    [(keras.layers.BatchNormalization, "moving_mean"), (keras.layers.Dropout, "seed")],
)
def test_a_decoder_with_state_that_never_moves_is_refused(layer, state):
    def build_with_state(features, levels, options):
        (feature,) = features.values()
        x = (
            layer(0.9, name="stateful")(feature)
            if state == "seed"
            else layer(name="stateful")(feature)
        )
        return upsampling.upsample(x, levels["P5"].stride, options.num_classes, "up", 0)

    decoder = Decoder(("P5",), build_with_state)
    with pytest.raises(UserError, match=rf"layer 'stateful' \({layer.__name__}\) .*{state}"):
        build_decoder("mine", decoder, {"P5": level(5, 4, 1.0)}, 64, DecoderOptions(2))
