import dataclasses

import keras
import numpy as np
import pytest

from petseg.errors import UserError
from petseg.models import summary
from petseg.models.decoders.base import Decoder
from petseg.models.encoders.base import IMAGE, Encoder, EncoderOptions, EncoderSpec, Level
from petseg.models.segmentation_model import ModelOptions, build_model
from petseg.registry import DECODERS, ENCODERS

NARROW = ModelOptions(encoder_width=2, encoder_convs=(1, 1, 1, 1, 1))


def build(decoder="fcn8s", size=64, **changes):
    options = dataclasses.replace(NARROW, decoder=decoder, **changes)
    return build_model(options, num_classes=3, image_size=size, weights="none")


def images(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def test_layers_of_a_users_own_model_keep_names_of_their_own():
    inputs = keras.Input((4, 4, 3))
    before = keras.layers.Conv2D(3, 1)(inputs)
    first = [variable.path for variable in build().variables]
    with pytest.raises(UserError):
        build("no_such_decoder")
    after = keras.layers.Conv2D(3, 1)(before)
    names = [layer.name for layer in keras.Model(inputs, after).layers]
    assert len(set(names)) == 3
    # Nor does what the user has built change the names in a checkpoint.
    assert [variable.path for variable in build().variables] == first


def test_features_resumed_from_any_stage_are_those_of_the_whole_encoder():
    model = build("fcn2s")
    x = images(2, 64)
    stages = list(model.encoder.stages)
    whole = dict(zip(stages, model.features({IMAGE: x}, stages), strict=True))
    for cut in range(1, 5):
        known = {name: whole[name] for name in stages[:cut]}
        for name, feature in zip(model.level_stages, model.features(known), strict=True):
            np.testing.assert_array_equal(feature, whole[name])
    np.testing.assert_array_equal(model.logits({IMAGE: x}), model(x))


def test_no_stage_is_computed_that_nobody_asked_for():
    model = build("fcn8s")
    with pytest.raises(KeyError):
        model.features({"pool5": np.zeros((1, 2, 2, 16))}, ["pool4"])
    (deepest,) = model.features({"pool4": np.ones((1, 4, 4, 16), np.float32)}, ["pool5"])
    assert deepest.shape == (1, 2, 2, 16)


@pytest.mark.parametrize(
    ("decoder", "trainable", "stages"),
    [
        ("fcn8s", "decoder", ("pool3", "pool4", "pool5")),
        ("fcn8s", "block5", ("pool3", "pool4")),
        ("fcn8s", "block3", ("pool2",)),
        ("fcn8s", "block2", ("pool1",)),
        ("fcn8s", "block1", ()),
        ("fcn8s", "all", ()),
        ("fcn2s", "block4", ("pool1", "pool2", "pool3")),
        ("fcn32s", "block3", ("pool2",)),
    ],
)
def test_what_stays_frozen_can_be_cached(decoder, trainable, stages):
    assert build(decoder).cacheable_stages(trainable) == stages


def test_stages_train_from_their_own_on():
    model = build()
    for trainable, first in (("decoder", 6), ("block5", 5), ("block3", 3), ("all", 1)):
        paths = [weight.path for weight in model.trainable_weights(trainable)]
        blocks = {int(path[5]) for path in paths if path.startswith("block")}
        assert blocks == set(range(first, 6))
        assert len([p for p in paths if not p.startswith("block")]) == 9


def test_the_keras_model_gives_the_same_logits_and_shares_the_variables():
    model = build("fpn", decoder_channels=8)
    joined = model.keras_model()
    x = images(2, 64)
    np.testing.assert_allclose(joined(x), model(x), rtol=1e-6, atol=1e-6)
    assert {v.path for v in joined.variables} == {v.path for v in model.variables}
    joined.variables[0].assign(joined.variables[0] + 1)
    np.testing.assert_allclose(joined(x), model(x), rtol=1e-5, atol=1e-5)


def test_the_same_seed_gives_the_same_weights():
    models = [build(size=32, seed=seed) for seed in (1, 1, 2)]
    first, same, other = ([v.numpy() for v in model.variables] for model in models)
    assert all((a == b).all() for a, b in zip(first, same, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def build_normalised(options: EncoderOptions) -> Encoder:
    """One stage of stride 32 with batch normalisation."""
    image = keras.Input((options.image_size, options.image_size, 3), dtype="uint8")
    x = keras.ops.cast(image, "float32")
    x = keras.layers.Conv2D(4, 32, strides=32, name="toy_conv")(x)
    x = keras.layers.BatchNormalization(name="toy_norm")(x)
    levels = {"P5": Level("only", 32, 4)}
    stages = {"only": keras.Model(image, x)}
    return Encoder("normalised", levels, stages, lambda x: x, "none")


def build_spectral(options: EncoderOptions) -> Encoder:
    image = keras.Input((options.image_size, options.image_size, 3), dtype="uint8")
    convolution = keras.layers.Conv2D(4, 32, strides=32)
    x = keras.layers.SpectralNormalization(convolution, name="spectral")(
        keras.ops.cast(image, "float32")
    )
    levels = {"P5": Level("only", 32, 4)}
    return Encoder("spectral", levels, {"only": keras.Model(image, x)}, lambda x: x, "none")


@pytest.fixture
def registered():
    before = dict(ENCODERS._items)
    ENCODERS.register("normalised", EncoderSpec(("only",), build_normalised))
    ENCODERS.register("spectral", EncoderSpec(("only",), build_spectral))
    yield
    ENCODERS._items = before


def test_an_example_does_not_depend_on_its_batch_in_a_normalised_encoder(registered):
    options = ModelOptions("normalised", "fcn32s")
    model = build_model(options, num_classes=3, image_size=64, weights="none")
    x = images(4, 64)
    alone = np.concatenate([model(x[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(model(x), alone, rtol=1e-4, atol=1e-4)
    trained = [weight.name for weight in model.trainable_weights("all")]
    assert {"gamma", "beta"} <= set(trained)
    assert not {"moving_mean", "moving_variance"} & set(trained)


def test_an_encoder_with_other_state_is_refused(registered):
    with pytest.raises(UserError, match=r"encoder=spectral: layer 'spectral' .* never move"):
        options = ModelOptions("spectral", "fcn32s")
        build_model(options, num_classes=3, image_size=64, weights="none")


def build_unnamed(features, levels, options):
    (feature,) = features.values()
    scores = keras.layers.Conv2D(options.num_classes, 1)(feature)
    return keras.layers.UpSampling2D(levels["P5"].stride, dtype="float32")(scores)


def build_with_name(name):
    def build(features, levels, options):
        (feature,) = features.values()
        scores = keras.layers.Conv2D(options.num_classes, 1, name=name)(feature)
        return keras.layers.UpSampling2D(levels["P5"].stride, dtype="float32")(scores)

    return build


def build_too_small(features, levels, options):
    (feature,) = features.values()
    return keras.layers.Conv2D(options.num_classes, 1, dtype="float32")(feature)


@pytest.fixture
def decoders():
    before = dict(DECODERS._items)
    yield lambda build: DECODERS.register("mine", Decoder(("P5",), build), replace=True)
    DECODERS._items = before


def test_layers_without_names_are_called_the_same_in_every_model(decoders):
    decoders(build_unnamed)
    first, second = ([v.path for v in build("mine").variables] for _ in range(2))
    assert first == second


def test_two_variables_of_one_name_are_refused(decoders):
    decoders(build_with_name("block5_conv1"))
    with pytest.raises(UserError, match=r"two variables called 'block5_conv1/kernel'"):
        build("mine")


def test_logits_of_another_shape_are_refused(decoders):
    decoders(build_too_small)
    with pytest.raises(UserError, match=r"gives float32 \(2, 2, 3\); .* \(64, 64, 3\)"):
        build("mine")


def test_an_encoder_must_be_what_its_levels_say():
    def build_wrong(options):
        encoder = build_normalised(options)
        levels = {"P5": Level("only", 32, 5)}
        return dataclasses.replace(encoder, levels=levels)

    before = dict(ENCODERS._items)
    try:
        ENCODERS.register("wrong", EncoderSpec(("only",), build_wrong))
        with pytest.raises(UserError, match=r"stage 'only' gives \(2, 2, 4\), but level P5"):
            build_model(
                ModelOptions("wrong", "fcn32s"), num_classes=2, image_size=64, weights="none"
            )
        ENCODERS.register("wrong", EncoderSpec(("first",), build_normalised), replace=True)
        with pytest.raises(UserError, match=r"it has stages \('only',\), not \('first',\)"):
            build_model(
                ModelOptions("wrong", "fcn32s"), num_classes=2, image_size=64, weights="none"
            )
    finally:
        ENCODERS._items = before


def test_an_unknown_encoder_or_decoder_is_named_with_those_there_are():
    with pytest.raises(UserError, match=r"encoder 'vgg17' is not one of vgg16, vgg19, resnet50"):
        build_model(ModelOptions("vgg17"), num_classes=2, image_size=32, weights="none")
    with pytest.raises(UserError, match=r"decoder 'wide' is not one of fcn32s, .*fpn"):
        build("wide")


def test_the_summary_counts_what_is_trained():
    model = build(size=32)
    of_decoder = sum(int(np.prod(v.shape)) for v in model.decoder.variables)
    of_encoder = sum(int(np.prod(v.shape)) for v in model.encoder.variables)
    whole = of_decoder + of_encoder
    text = summary.describe_model(model, "fcn8s", ["decoder"], 4)
    assert f"encoder vgg16: {of_encoder:,} parameters" in text
    assert f"decoder fcn8s on P5, P4, P3: {of_decoder:,} parameters" in text
    assert f"model: {whole:,} parameters, {of_decoder:,} of them trained" in text
    rows = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ")}
    assert all("frozen" in rows[f"block{n}_conv1"] for n in range(1, 6))
    assert "trained" in rows["score_P5"]
    free = summary.describe_model(model, "fcn8s", ["decoder", "all"], 4)
    assert f"{whole:,} parameters, {whole:,} of them trained" in free
    assert "frozen" not in free


def test_what_keras_is_set_to_elsewhere_changes_no_model():
    x = images(1, 64)
    plain = build("fpn", decoder_channels=8)
    config = keras.config
    before = config.floatx(), config.image_data_format(), config.epsilon()
    config.set_floatx("float16")
    config.set_image_data_format("channels_first")
    config.set_epsilon(1e-2)
    try:
        model = build("fpn", decoder_channels=8)
        assert config.floatx() == "float16"
        assert config.image_data_format() == "channels_first"
        assert config.epsilon() == 1e-2
        logits = model(x)
    finally:
        config.set_floatx(before[0])
        config.set_image_data_format(before[1])
        config.set_epsilon(before[2])
    assert [(v.path, v.dtype) for v in model.variables] == [
        (v.path, v.dtype) for v in plain.variables
    ]
    np.testing.assert_array_equal(logits, plain(x))
