"""The head that tells an image's class and box, and gives masks by them."""

import numpy as np
import pytest
import tensorflow as tf
from testing.encoders import TINY, images

from petseg.losses.base import Truth
from petseg.models.class_masks import SHARED, SUMMED, TRANSFER
from petseg.models.encoders.base import IMAGE
from petseg.models.segmentation_model import (
    ALL,
    DECODER,
    ModelOptions,
    SegmentationModel,
    build_model,
)
from petseg.training.gradients import BatchShares, LossOptions, make_gradients

BREEDS, CLASSES, CHANNELS = 5, 2, 8


def build(kind, encoder="mobilenet_v2") -> SegmentationModel:
    width, convs = TINY[encoder]
    options = ModelOptions(
        encoder, "fcn8s", width, convs, CHANNELS, class_masks=kind, image_classes=BREEDS
    )
    model = build_model(options, num_classes=CLASSES, image_size=64, weights="none")
    if model.class_masks:
        rng = np.random.default_rng(0)
        for variable in model.class_masks.variables:
            variable.assign(rng.normal(0, 0.3, variable.shape))
    return model


def weights_of(model):
    return {v.path.removeprefix("class_masks/"): v.numpy() for v in model.class_masks.variables}


def by_hand(model, x, image_class=None):
    """What the head gives, in NumPy from the definition: one image and one pixel at a time."""
    w, (deepest, *_) = weights_of(model), model.features({IMAGE: x})
    (level, *_), kind = model.levels.values(), model.class_masks.layers[-1].kind
    mean = deepest.numpy().astype(np.float64).mean((1, 2)) / level.scale
    logits = mean @ w["classify/kernel"] + w["classify/bias"]
    boxes = (mean @ w["locate/kernel"] + w["locate/bias"]).reshape(-1, BREEDS, 4)
    pixels = model.decoder(model.features({IMAGE: x}), training=False).numpy().astype(np.float64)
    if kind == SHARED:
        return pixels, logits, boxes
    channels = mean.shape[1]
    chosen = logits.argmax(-1) if image_class is None else image_class
    masks = []
    for one, breed in zip(pixels, chosen, strict=True):
        parts = []
        for part in (
            w["classify/kernel"][:, breed],
            w["locate/kernel"].reshape(channels, BREEDS, 4)[:, breed].T.reshape(-1),
        ):
            parts.append(part / np.sqrt((part.astype(np.float64) ** 2).mean()))
        hidden = np.concatenate(parts) @ w["hidden/kernel"] + w["hidden/bias"]
        hidden = np.where(hidden > 0, hidden, 0.02 * hidden)
        weighing = (hidden @ w["weigh/kernel"] + w["weigh/bias"]).reshape(CHANNELS + 1, CLASSES)
        mask = one[..., -CHANNELS:] @ weighing[:-1] + weighing[-1]
        masks.append(mask + one[..., :CLASSES] if kind == SUMMED else mask)
    return np.stack(masks), logits, boxes


@pytest.mark.parametrize("kind", [SHARED, TRANSFER, SUMMED])
def test_masks_follow_from_what_tells_class_and_box(kind):
    model, x = build(kind), images(3, 64)
    found = model.outputs({IMAGE: x})
    for tensor, expected in zip(
        (found.pixels, found.image_class, found.boxes), by_hand(model, x), strict=True
    ):
        np.testing.assert_allclose(tensor, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(model(x), found.pixels)
    known = np.array([4, -1, 1])
    breeds = np.where(known >= 0, known, found.image_class.numpy().argmax(-1))
    of_known = model.outputs({IMAGE: x}, tf.constant(known))
    np.testing.assert_allclose(
        of_known.pixels, by_hand(model, x, breeds)[0], rtol=1e-3, atol=1e-3
    )  # fmt: skip
    if kind != SHARED:
        assert np.abs(of_known.pixels - found.pixels).max() > 0.1


def test_pixels_without_the_head_are_those_of_the_shared_one():
    x = images(2, 64)
    with_head, without = build(SHARED), build("none")
    np.testing.assert_array_equal(with_head(x), without(x))
    more = {v.path for v in with_head.variables} - {v.path for v in without.variables}
    assert more == {
        f"class_masks/{layer}/{kind}"
        for layer in ("classify", "locate")
        for kind in ("kernel", "bias")
    }
    for trainable in (DECODER, ALL):
        assert more <= {weight.path for weight in with_head.trainable_weights(trainable)}


@pytest.mark.parametrize("kind", [TRANSFER, SUMMED])
def test_masks_move_no_weight_that_tells_class_or_box(kind):
    model = build(kind)
    weights = model.trainable_weights(DECODER)
    masks = np.random.default_rng(0).integers(0, CLASSES, (2, 64, 64)).astype(np.uint8)

    def moved(terms):
        gradients = make_gradients(model, weights, LossOptions(terms), BatchShares(2), xla=False)
        truth = Truth(
            tf.constant(masks),
            tf.constant([1, 3], tf.int64),
            tf.constant([[0.1, 0.2, 0.7, 0.8]] * 2),
        )
        _, *found = gradients(
            [tf.identity(w.value) for w in weights], {IMAGE: tf.constant(images(2, 64))}, truth,
            tf.constant(0), tf.constant([1, 2], tf.int64), tf.constant(8192.0), tf.constant(1.0),
        )  # fmt: skip
        pairs = zip(weights, found, strict=True)
        return {w.path.split("/")[-2] for w, g in pairs if np.abs(g.numpy()).max() > 0}

    of_masks = moved({"cross_entropy": 1.0})
    assert {"hidden", "weigh"} <= of_masks
    assert not {"classify", "locate"} & of_masks
    assert moved({"image_class": 1.0}) == {"classify"}
    assert moved({"box": 1.0}) == {"locate"}


@pytest.mark.parametrize("kind", [TRANSFER, SUMMED])
def test_the_joined_model_gives_what_the_model_gives(kind):
    model, x = build(kind), images(3, 64)
    joined = model.keras_model()
    np.testing.assert_allclose(joined(x), model(x), rtol=1e-4, atol=1e-4)
    for variable in model.class_masks.variables:  # it shares the weights
        variable.assign(variable + 0.1)
    np.testing.assert_allclose(joined(x), model(x), rtol=1e-4, atol=1e-4)
