"""Prediction of images: batches, flips, scales and windows, with models of a known answer."""

import numpy as np
import pytest
import tensorflow as tf

from petseg.image_size import ImageSize, sides_of
from petseg.inference import predictor as predictor_module
from petseg.inference.postprocessing import PostprocessingOptions
from petseg.inference.predictor import Predictor, PredictorOptions, make_predictor
from petseg.inference.sliding_windows import window_starts
from petseg.inference.small_regions import remove_small
from petseg.inference.smoothing import smooth
from petseg.inference.tta import TtaOptions
from petseg.run_dir import trained_model

SIZE = 32
SIZES = (SIZE, (64, 96))
PLAIN = TtaOptions()
NOTHING = PostprocessingOptions()


class BrightPixels:
    """Stands for a model whose class 1 is every bright pixel; padding is dark."""

    def __init__(self, size: ImageSize = SIZE):
        self.sides = sides_of(size)

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        assert images.shape[1:] == (*self.sides, 3)
        bright = (tf.cast(images[..., 0], tf.float32) - 127.5) / 16
        return tf.stack([-bright, bright], -1)


class LeftHalf:
    """Stands for a model that predicts the same for every image: class 1 on the left."""

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        left = tf.cast(tf.range(tf.shape(images)[2]) < tf.shape(images)[2] // 2, tf.float32)
        logits = tf.stack([1 - left, left], -1) * 10
        return tf.broadcast_to(logits, [*tf.unstack(tf.shape(images)[:3]), 2])


def predictor_of(
    model_at_size=BrightPixels,
    tta=PLAIN,
    keep_aspect=False,
    batch_size=3,
    size=SIZE,
    postprocessing=NOTHING,
):
    options = PredictorOptions(size, 2, keep_aspect, batch_size, tta, None, postprocessing)
    return Predictor(model_at_size, options)


def predict(images, tta=PLAIN, keep_aspect=False, batch_size=3, size=SIZE):
    """Class ids of each image."""
    predictor = predictor_of(tta=tta, keep_aspect=keep_aspect, batch_size=batch_size, size=size)
    predictions = list(predictor.predict_all(iter(images)))
    assert len(predictions) == len(images)
    for image, probabilities in zip(images, predictions, strict=True):
        assert probabilities.shape == (*image.shape[:2], 2)
        np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    return [probabilities.argmax(-1) for probabilities in predictions]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("keep_aspect", [False, True])
@pytest.mark.parametrize(
    "tta", [TtaOptions(), TtaOptions(flip=True), TtaOptions(scales=(0.5, 1.0, 2.0)),
            TtaOptions(flip=True, scales=(1.0, 1.5), sliding_windows=True)],
    ids=["plain", "flip", "scales", "windows"],
)  # fmt: skip
def test_images_of_any_shape_are_predicted_at_their_full_size(tta, keep_aspect, size):
    images = []
    for height, width in [(20, 80), (80, 20), (32, 32), (7, 300), (1, 1), (33, 31), (100, 100)]:
        image = np.full((height, width, 3), 255, np.uint8)
        image[:, : width // 2] = 0
        images.append(image)
    predicted = predict(images, tta, keep_aspect, size=size)
    for image, class_ids in zip(images, predicted, strict=True):
        height, width = image.shape[:2]
        assert class_ids.shape == (height, width)
        # Right but for the pixels at the edge between dark and bright.
        blurred = 2 * -(-max(height, width) // SIZE) + 2
        assert (class_ids[:, : max(width // 2 - blurred, 0)] == 0).all()
        assert (class_ids[:, width // 2 + blurred :] == 1).all()


def test_the_prediction_of_a_mirror_image_is_mirrored_back():
    predictor = predictor_of(lambda _: LeftHalf(), TtaOptions(flip=True))
    (views,) = predictor.predict_views([np.zeros((SIZE, SIZE, 3), np.uint8)])
    plain, flipped = (logits.numpy().argmax(-1) for logits in views)
    np.testing.assert_array_equal(plain, 1 - flipped)


@pytest.mark.parametrize("size", SIZES)
def test_padding_stays_on_the_right_of_a_mirrored_image(size):
    # The padding of a high image lies right of the middle, where logits are cut off.
    predictor = predictor_of(
        lambda _: LeftHalf(), TtaOptions(flip=True), keep_aspect=True, size=size
    )
    height, width = sides_of(size)
    (views,) = predictor.predict_views([np.zeros((2 * height, width, 3), np.uint8)])
    for logits in views:
        assert logits.shape == (height, width // 2, 2)
        assert (logits.numpy().argmax(-1) == 1).all()


@pytest.mark.parametrize("size", [SIZE, (32, 64), (64, 32)])
def test_windows_keep_details_that_resizing_loses(size):
    rng = np.random.default_rng(0)
    fine = np.kron(rng.integers(0, 2, (50, 70), np.uint8), np.ones((3, 3), np.uint8)) * 255
    image = np.repeat(fine[..., None], 3, -1)
    (whole,) = predict([image], size=size)
    (windows,) = predict([image], TtaOptions(sliding_windows=True), size=size)
    np.testing.assert_array_equal(windows, fine // 255)
    assert (whole != fine // 255).mean() > 0.1


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_predictions_do_not_depend_on_the_batch_size(batch_size):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*rng.integers(5, 60, 2), 3), np.uint8) for _ in range(7)]
    for one, other in zip(predict(images), predict(images, batch_size=batch_size), strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_more_than_one_batch_of_images_is_held():
    given = 0

    def images():
        nonlocal given
        for _ in range(40):
            given += 1
            yield np.zeros((8, 8, 3), np.uint8)

    for done, _ in enumerate(predictor_of(batch_size=4).predict_all(images())):
        assert given <= done + 4


@pytest.mark.parametrize("side", [32, 33, 47, 48, 49, 64, 100, 1000])
def test_windows_cover_every_pixel_and_overlap_by_half(side):
    starts = window_starts(side, SIZE)
    assert starts[0] == 0 and starts[-1] == side - SIZE
    assert (np.diff(starts) <= SIZE // 2 + 1).all() and (np.diff(starts) > 0).all()


@pytest.mark.parametrize("strip_values", [1 << 22, 300])
def test_the_mask_is_of_smoothed_probabilities_without_small_regions(monkeypatch, strip_values):
    image = np.random.default_rng(0).integers(0, 256, (61, 45, 3), np.uint8)
    plain = predictor_of().predict_probabilities(image)
    monkeypatch.setattr(predictor_module, "_STRIP_VALUES", strip_values)
    expected = smooth(plain, 1.5)
    for min_area_px in (0, 40):
        done = PostprocessingOptions(1.5, min_area_px)
        found = predictor_of(postprocessing=done)
        np.testing.assert_array_equal(found.predict_probabilities(image), expected)
        mask = remove_small(expected.argmax(-1).astype(np.uint8), min_area_px)
        np.testing.assert_array_equal(found.predict(image), mask)
    assert (mask != plain.argmax(-1)).any() and (mask != expected.argmax(-1)).any()
    assert len(np.unique(mask)) == 2


def test_a_run_predicts_single_arrays_of_any_size(run_dir):
    """Against the model called by hand, averaged over an image and its mirror image."""
    trained = trained_model.load_trained_model(str(run_dir))
    image = np.random.default_rng(0).integers(0, 256, (45, 70, 3), np.uint8)
    expected = 0
    for flip in (1, -1):
        resized = tf.image.resize(image[:, ::flip], [SIZE, SIZE], antialias=True)
        logits = trained.model(tf.saturate_cast(tf.round(resized), tf.uint8)[None])
        full = tf.nn.softmax(tf.image.resize(logits[:, :, ::flip], image.shape[:2]))[0]
        expected = expected + full.numpy() / 2
    predictor = make_predictor(trained, TtaOptions(flip=True), 1)
    probabilities = predictor.predict_probabilities(image)
    assert (probabilities.dtype, probabilities.shape) == (np.float32, (45, 70, 3))
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    class_ids = predictor.predict(image)
    assert class_ids.dtype == np.uint8
    np.testing.assert_array_equal(class_ids, probabilities.argmax(-1))
