"""The head that tells which classes an image holds."""

import dataclasses

import numpy as np
import pytest
from testing.encoders import OTHER_ENCODERS, TINY, images

from petseg.models.encoders.base import IMAGE
from petseg.models.presence import suppress_absent
from petseg.models.segmentation_model import (
    ALL,
    DECODER,
    ModelOptions,
    SegmentationModel,
    build_model,
)


def build(encoder="vgg16", decoder="fcn8s", presence=True) -> SegmentationModel:
    width, convs = TINY[encoder]
    options = ModelOptions(encoder, decoder, width, convs, 8, presence=presence)
    model = build_model(options, num_classes=3, image_size=96, weights="none")
    if presence:
        rng = np.random.default_rng(0)
        for variable in model.presence.variables:
            variable.assign(rng.normal(0, 1, variable.shape))
    return model


@pytest.mark.parametrize("encoder", OTHER_ENCODERS)
def test_presence_is_a_dense_layer_on_the_mean_of_the_deepest_features(encoder):
    model, x = build(encoder), images(2, 96)
    (deepest, *_), (level, *_) = model.features({IMAGE: x}), model.levels.values()
    kernel, bias = (variable.numpy() for variable in model.presence.variables)
    expected = deepest.numpy().astype(np.float64).mean((1, 2)) / level.scale @ kernel + bias
    np.testing.assert_allclose(model.outputs({IMAGE: x}).presence, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("decoder", ["segnet", "unet", "pspnet", "deeplab_v3_plus"])
def test_pixels_are_those_of_a_model_without_the_head(decoder):
    x = images(1, 96)
    without, model = (build(decoder=decoder, presence=there) for there in (False, True))
    assert without.outputs({IMAGE: x}).presence is None
    np.testing.assert_array_equal(model(x), without(x))
    more = {v.path for v in model.variables} - {v.path for v in without.variables}
    assert more == {"presence/kernel", "presence/bias"}
    for trainable in (DECODER, ALL):
        assert more <= {weight.path for weight in model.trainable_weights(trainable)}


def test_a_head_starts_without_an_opinion():
    options = ModelOptions(encoder_width=2, encoder_convs=(1, 1, 1, 1, 1), presence=True)
    model = build_model(options, num_classes=3, image_size=96, weights="none")
    np.testing.assert_array_equal(model.outputs({IMAGE: images(2, 96)}).presence, np.zeros((2, 3)))


def test_absent_classes_are_taken_from_every_pixel_but_not_all_of_them():
    rng = np.random.default_rng(1)
    pixels = rng.normal(0, 5, (4, 6, 5, 3)).astype(np.float32)
    probabilities = np.array([[0.9, 0.2, 0.6], [0.9, 0.4, 0.1], [0.1, 0.1, 0.1], [0.6, 0.3, 0.3]])
    image = np.log(probabilities / (1 - probabilities)).astype(np.float32)
    thresholds = (0.5, 0.25, 0.5)
    found = np.asarray(suppress_absent(pixels, image, thresholds))
    for one, before, p in zip(found, pixels, probabilities, strict=True):
        there = np.flatnonzero(p >= thresholds)
        if not there.size:
            there = np.arange(3)
        np.testing.assert_array_equal(one.argmax(-1), there[before[..., there].argmax(-1)])
        np.testing.assert_array_equal(one[..., there], before[..., there])
    np.testing.assert_array_equal(suppress_absent(pixels, image, (0.0, 0.0, 0.0)), pixels)


def test_the_joined_model_suppresses_as_the_model_does():
    model, x = build("mobilenet_v2"), images(3, 96)
    probabilities = 1 / (1 + np.exp(-model.outputs({IMAGE: x}).presence.numpy()))
    # Between the images' probabilities, so that some have each class and some do not.
    thresholds = tuple(np.median(probabilities, 0).tolist())
    suppressing = dataclasses.replace(model, thresholds=thresholds)
    found = suppressing(x).numpy()
    np.testing.assert_allclose(suppressing.keras_model()(x), found, rtol=1e-5, atol=1e-4)
    assert (found != model(x).numpy()).any()
    for one, p in zip(found, probabilities, strict=True):
        if (p >= thresholds).any():
            assert set(np.unique(one.argmax(-1))) <= set(np.flatnonzero(p >= thresholds))
