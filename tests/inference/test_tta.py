"""Looking at images: batches, flips, scales and windows, with models that are easy to predict."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from petseg.inference import forward
from petseg.inference.forward import Views

SIZE = 32
PLAIN = Views()


class BrightPixels:
    """Stands for a model whose class 1 is what is bright; the filling is dark."""

    def __init__(self, size: int = SIZE):
        self.backbone = SimpleNamespace(inputs=[SimpleNamespace(shape=(None, size, size, 3))])

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        bright = (tf.cast(images[..., 0], tf.float32) - 127.5) / 16
        return tf.stack([-bright, bright], -1)


class LeftHalf:
    """Stands for a model that says the same of every image: class 1 is on the left."""

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        left = tf.cast(tf.range(tf.shape(images)[2]) < tf.shape(images)[2] // 2, tf.float32)
        logits = tf.stack([1 - left, left], -1) * 10
        return tf.broadcast_to(logits, [*tf.unstack(tf.shape(images)[:3]), 2])


def segment(images, views=PLAIN, keep_aspect=False, batch_size=3, at_size=BrightPixels):
    see = forward.make_see(at_size, SIZE, keep_aspect, batch_size, views)
    shares = forward.make_probabilities(views, 2)
    found = []
    for image, seen in zip(images, see(iter(images)), strict=True):
        found.append(shares(seen, *np.int32(image.shape[:2])).numpy())
        np.testing.assert_allclose(found[-1].sum(-1), 1, rtol=1e-5)
    return [of.argmax(-1) for of in found]


@pytest.mark.parametrize("keep_aspect", [False, True])
@pytest.mark.parametrize(
    "views", [Views(), Views(flip=True), Views(scales=(0.5, 1.0, 2.0)),
              Views(flip=True, scales=(1.0, 1.5), sliding_windows=True)],
    ids=["plain", "flip", "scales", "windows"],
)  # fmt: skip
def test_pictures_of_any_shape_are_segmented_at_their_own_size(views, keep_aspect):
    images = []
    for height, width in [(20, 80), (80, 20), (32, 32), (7, 300), (1, 1), (33, 31), (100, 100)]:
        image = np.full((height, width, 3), 255, np.uint8)
        image[:, : width // 2] = 0
        images.append(image)
    for image, class_ids in zip(images, segment(images, views, keep_aspect), strict=True):
        height, width = image.shape[:2]
        assert class_ids.shape == (height, width)
        # Right but for the pixels at the edge between dark and bright.
        blurred = 2 * -(-max(height, width) // SIZE) + 2
        assert (class_ids[:, : max(width // 2 - blurred, 0)] == 0).all()
        assert (class_ids[:, width // 2 + blurred :] == 1).all()


def test_a_mirror_image_is_turned_back():
    # What is always on the left is, averaged with its mirror image, nowhere.
    see = forward.make_see(lambda _: LeftHalf(), SIZE, False, 2, Views(flip=True))
    (seen,) = see([np.zeros((SIZE, SIZE, 3), np.uint8)])
    plain, flipped = (logits.numpy().argmax(-1) for logits in seen)
    np.testing.assert_array_equal(plain, 1 - flipped)


def test_what_fills_an_image_up_stays_on_its_right():
    # Right of the middle, where the filling of a high image lies, nothing is asked for.
    see = forward.make_see(lambda _: LeftHalf(), SIZE, True, 2, Views(flip=True))
    (seen,) = see([np.zeros((2 * SIZE, SIZE, 3), np.uint8)])
    for logits in seen:
        assert logits.shape == (SIZE, SIZE // 2, 2)
        assert (logits.numpy().argmax(-1) == 1).all()


def test_windows_see_details_that_the_whole_image_loses():
    rng = np.random.default_rng(0)
    fine = np.kron(rng.integers(0, 2, (50, 70), np.uint8), np.ones((3, 3), np.uint8)) * 255
    image = np.repeat(fine[..., None], 3, -1)
    (whole,), (through,) = segment([image]), segment([image], Views(sliding_windows=True))
    np.testing.assert_array_equal(through, fine // 255)
    assert (whole != fine // 255).mean() > 0.1


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_batches_change_nothing(batch_size):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*rng.integers(5, 60, 2), 3), np.uint8) for _ in range(7)]
    for one, other in zip(segment(images), segment(images, batch_size=batch_size), strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_more_images_are_held_than_are_computed_together():
    given = 0

    def images():
        nonlocal given
        for _ in range(40):
            given += 1
            yield np.zeros((8, 8, 3), np.uint8)

    see = forward.make_see(lambda _: BrightPixels(), SIZE, False, 4, Views())
    for done, _ in enumerate(see(images())):
        assert given <= done + 4


@pytest.mark.parametrize("side", [32, 33, 47, 48, 49, 64, 100, 1000])
def test_windows_reach_every_pixel_and_overlap_by_half(side):
    starts = forward.window_starts(side, SIZE)
    assert starts[0] == 0 and starts[-1] == side - SIZE
    assert (np.diff(starts) <= SIZE // 2 + 1).all() and (np.diff(starts) > 0).all()
