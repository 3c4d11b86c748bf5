"""What every decoder does alike, and what the newer ones refuse."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from testing.configs import make_tiny_config

from petseg import config_rules
from petseg.config import FEATURE_DTYPES
from petseg.errors import UserError
from petseg.feature_cache import records
from petseg.models import features
from petseg.models.decoders.base import DecoderOptions, build_decoder
from petseg.models.encoders.base import (
    IMAGE,
    IMAGE_LEVEL,
    Encoder,
    EncoderOptions,
    EncoderSpec,
    Level,
)
from petseg.models.segmentation_model import DECODER, ModelOptions, build_model
from petseg.registry import DECODERS, ENCODERS
from petseg.training.cpu_speed import upsample_by_matmul

NARROW = {"encoder_width": 2, "encoder_convs": (1, 1, 1, 1, 1)}
NEWER = ("unet", "segnet", "pspnet", "deeplab_v3_plus")
ALL = ("fcn8s", "fpn", *NEWER)
LEAST_SIZE = {"unet": 32, "segnet": 32, "pspnet": 96, "deeplab_v3_plus": 32}


def images(count, height, width):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def build(decoder, size, *, channels=8, classes=3, seed=0, precision="float32"):
    options = ModelOptions(decoder=decoder, decoder_channels=channels, seed=seed, **NARROW)
    return build_model(
        options, num_classes=classes, image_size=size, weights="none", precision=precision
    )


def toy_levels(output_stride, scale=1.0):
    """Levels as wide as those of an encoder with maximum pooling."""
    levels = {IMAGE_LEVEL: Level(IMAGE, 1, 3)}
    for number, channels in enumerate((3, 4, 5, 6, 7), 1):
        stride = min(2**number, output_stride)
        levels[f"P{number}"] = Level(f"pool{number}", stride, channels, scale)
        levels[f"C{number}"] = Level(f"block{number}", 2 ** (number - 1), channels, scale)
    return levels


def build_toy(decoder, size, *, scale=1.0, seed=0, channels=8):
    spec = DECODERS.get(decoder)
    levels = toy_levels(spec.output_stride, scale)
    return build_decoder(decoder, spec, levels, size, DecoderOptions(3, channels, seed))


def draw_features(model, scale=1.0):
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 256, (2, *one.shape[1:]), np.uint8)
        if one.dtype == "uint8"
        else scale * rng.gamma(0.5, 1, (2, *one.shape[1:])).astype(np.float32)
        for one in model.inputs
    ]


@pytest.mark.slow
@pytest.mark.parametrize("decoder", NEWER)
@pytest.mark.parametrize(("size", "classes"), [((32, 32), 2), ((64, 96), 5), ((160, 128), 3)])
def test_any_multiple_of_32_gives_float32_logits_of_the_images_size(decoder, size, classes):
    if min(size) < LEAST_SIZE[decoder]:
        pytest.skip("too small, which is refused")
    logits = build(decoder, size, classes=classes)(images(2, *size))
    assert (logits.shape, logits.dtype) == ((2, *size, classes), tf.float32)
    assert np.isfinite(logits).all()
    assert np.ptp(logits, axis=(1, 2)).min() > 0


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("decoder", NEWER)
def test_mixed_precision_is_near_float32(decoder, precision):
    x = images(2, 96, 96)
    mixed, exact = build(decoder, 96, precision=precision)(x), build(decoder, 96)(x)
    assert mixed.dtype == tf.float32
    error = np.sqrt(np.mean((mixed - exact) ** 2) / np.mean(exact**2))
    # Rounded features put many maxima elsewhere.
    assert 0 < error < (0.6 if decoder == "segnet" else 0.03)


@pytest.mark.parametrize("decoder", NEWER)
def test_no_two_layers_start_alike_and_a_seed_gives_the_same_weights(decoder):
    first, same, other = (build_toy(decoder, 96, seed=seed) for seed in (1, 1, 2))
    drawn = [v for v in first.variables if v.path.endswith("kernel") and "to_image" not in v.path]
    assert len(drawn) > 3
    triples = zip(first.variables, same.variables, other.variables, strict=True)
    for variable, again, another in triples:
        np.testing.assert_array_equal(variable, again)
        if any(variable is one for one in drawn):
            assert np.any(variable.numpy() != another.numpy()), variable.path
    # Whatever their shapes: the same seed draws the same numbers first.
    starts = [tuple(np.sign(v.numpy().ravel()[:24])) for v in drawn]
    assert len(set(starts)) == len(starts)


@pytest.mark.parametrize("decoder", ALL)
def test_a_gradient_reaches_every_weight(decoder):
    model = build_toy(decoder, 128)
    rng = np.random.default_rng(1)
    variables = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        logits = model(draw_features(model), training=True)
        loss = tf.reduce_mean(logits * rng.normal(size=logits.shape))
    assert len(variables) == len(model.variables)
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        assert np.isfinite(gradient).all() and np.any(gradient), variable.name


@pytest.mark.parametrize("decoder", ALL)
def test_features_ten_times_as_large_give_the_same_logits(decoder):
    logits = []
    for scale in (1.0, 10.0):
        model = build_toy(decoder, 96, scale=scale)
        logits.append(model(draw_features(model, scale)).numpy())
    np.testing.assert_allclose(logits[1], logits[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("decoder", DECODERS)
def test_no_variables_name_depends_on_what_was_built_before(decoder):
    """Checkpoints hold variables by name."""
    first, second = (build_toy(decoder, 96).variables for _ in range(2))
    assert [variable.path for variable in first] == [variable.path for variable in second]


@pytest.mark.parametrize("decoder", NEWER)
def test_an_example_does_not_depend_on_its_batch(decoder):
    model, x = build(decoder, 96), images(3, 96, 96)
    np.testing.assert_allclose(model(x)[1:2], model(x[1:2]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("decoder", NEWER)
def test_what_speeds_up_cpus_computes_the_same(decoder):
    model, x = build(decoder, (96, 128)), images(2, 96, 128)
    np.testing.assert_allclose(upsample_by_matmul(model)(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("decoder", NEWER)
@pytest.mark.parametrize("channels", [0, 12])
def test_channels_that_do_not_fit_are_refused(decoder, channels):
    if (decoder, channels) == ("segnet", 0):
        pytest.skip("the encoder's channels")
    with pytest.raises(UserError, match=rf"={channels} must be a .* of 8 with .*={decoder}$"):
        build(decoder, 96, channels=channels)


def test_unet_doubles_its_channels_up_to_a_bound():
    decoder = build("unet", 32, channels=16).decoder
    widths = [decoder.get_layer(f"conv_P{number}_2").filters for number in (5, 4, 3, 2, 1, 0)]
    assert widths == [128, 128, 64, 32, 16, 8]


@pytest.mark.parametrize(("channels", "expected"), [(0, [7, 6, 5, 4, 3]), (8, [7, 6, 5, 4, 3])])
def test_segnet_is_never_wider_than_its_encoder(channels, expected):
    model = build_toy("segnet", 32, channels=channels)
    assert [model.get_layer(f"conv_C{n}_1").filters for n in (5, 4, 3, 2, 1)] == expected
    assert [model.get_layer(f"conv_C{n}_2").filters for n in (5, 4, 3, 2)] == [6, 5, 4, 3]


def test_segnet_puts_features_where_the_encoder_found_its_maxima():
    """The places come from C1: another C1 with the same maxima elsewhere moves the logits."""
    model = build_toy("segnet", 32)
    found = draw_features(model)
    mirrored = [*found[:-1], found[-1][:, :, ::-1]]
    assert np.abs(model(found) - model(mirrored)).max() > 0.01
    # Only where the maxima lie counts, not how large they are.
    larger = [found[0], *(3 * one + 1 for one in found[1:])]
    np.testing.assert_allclose(model(larger), model(found), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [32, 64, (64, 128)])
def test_an_image_without_a_feature_for_each_bin_is_refused(size):
    with pytest.raises(UserError, match=r"image_size: 64 x|32 x .* use at least 96 pixels a side"):
        build("pspnet", size)


def build_without_pooling(options: EncoderOptions) -> Encoder:
    image = options.image()
    x = keras.ops.cast(image, "float32")
    x = keras.layers.Conv2D(4, 32, strides=32, name="patches")(x)
    levels = {"P5": Level("only", 32, 4)}
    return Encoder("patches", levels, {"only": keras.Model(image, x)}, lambda x: x, "none")


def test_an_encoder_without_pooling_is_refused_with_those_that_fit(monkeypatch):
    spec = EncoderSpec(("only",), build_without_pooling)
    monkeypatch.setitem(ENCODERS._items, "patches", spec)
    options = ModelOptions(encoder="patches", decoder="segnet")
    with pytest.raises(UserError) as caught:
        build_model(options, num_classes=2, image_size=32, weights="none")
    message = str(caught.value)
    assert "decoder=segnet reads level C5, which this encoder does not have: it has P5; " in (
        message
    )
    assert "max pooling" in message and "config.model.encoder must be one of vgg16" in message
    assert "patches" not in message.rpartition("must be one of")[2]


def test_segnet_is_refused_with_a_feature_cache(tmp_path):
    config = make_tiny_config(tmp_path)
    config.model.decoder = "segnet"
    config_rules.validate(config)
    config.data.feature_cache_dir = str(tmp_path)
    with pytest.raises(UserError, match=r"decoder='segnet' .* features as large as the images"):
        config_rules.validate(config)


@pytest.mark.parametrize("dtype", FEATURE_DTYPES)
def test_unet_gives_the_same_logits_from_the_records_of_a_feature_cache(dtype):
    model, x = build("unet", 64), images(3, 64, 64)
    stages = model.cacheable_stages(DECODER)
    assert stages[0] == IMAGE
    outputs = dict(zip(stages, model.features({IMAGE: tf.constant(x)}, stages), strict=True))
    encoded = features.encode(outputs, dtype)
    shapes = {stage: model.output_shape(stage) for stage in stages}
    layout = records.Layout(64, shapes, dtype)
    mask = np.zeros((64, 64), np.uint8)
    written = [
        records.encode_record(
            b"x", 0, mask, (64, 64), {key: values[row].numpy() for key, values in encoded.items()}
        )
        for row in range(len(x))
    ]
    parsed = records.parse_records(written, layout, stages, np.arange(256, dtype=np.uint8))
    known = features.decode(parsed)
    np.testing.assert_array_equal(known[IMAGE], x)
    expected = model.logits(features.decode(encoded))
    np.testing.assert_array_equal(model.logits(known), expected)
    error = np.sqrt(np.mean((expected - model(x)) ** 2) / np.mean(model(x) ** 2))
    assert 0 < error < (0.002 if dtype == "float16" else 0.05)
