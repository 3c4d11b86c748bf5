import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from petseg.input_pipeline import augment

SEEDS = st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))


def seed_of(pair) -> tf.Tensor:
    return tf.constant(pair, tf.int64)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.floats(0.01, 1.0),
    st.floats(1.0, 4.0),
    SEEDS,
)
def test_a_window_lies_inside_the_image(height, width, min_area, max_aspect, seed):
    window = augment.sample_window(
        tf.constant(height), tf.constant(width), min_area, max_aspect, seed_of(seed)
    )
    top, left, rows, columns = window.numpy()
    assert top >= 0 and left >= 0 and rows >= 1 and columns >= 1
    assert top + rows <= height and left + columns <= width


def test_windows_cover_the_areas_aspects_and_places_that_were_asked_for():
    windows = np.array(
        [
            augment.sample_window(
                tf.constant(1000), tf.constant(2000), 0.25, 1.5, seed_of((7, i))
            ).numpy()
            for i in range(400)
        ]
    )
    top, left, rows, columns = windows.T
    area = rows * columns / 2e6
    aspect = (columns / 2) / rows
    assert area.min() > 0.24 and area.max() <= 1
    assert 0.55 < area.mean() < 0.68  # uniform between 0.25 and 1, a little cut at the sides
    assert aspect.min() > 1 / 1.52 and aspect.max() < 1.52
    room = rows < 800
    assert 0.4 < (top[room] / (1000 - rows[room])).mean() < 0.6
    room = columns < 1600
    assert 0.4 < (left[room] / (2000 - columns[room])).mean() < 0.6


def test_a_whole_image_stays_whole():
    for i in range(20):
        window = augment.sample_window(tf.constant(7), tf.constant(9), 1.0, 2.0, seed_of((i, i)))
        assert window.numpy().tolist() == [0, 0, 7, 9]


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_a_flip_moves_image_and_mask_together_or_not_at_all(seed):
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    mask = np.arange(4 * 6, dtype=np.uint8).reshape(4, 6, 1)
    flipped, flipped_mask = map(np.asarray, augment.random_flip(image, mask, seed_of(seed)))
    same = (flipped == image).all() and (flipped_mask == mask).all()
    both = (flipped == image[:, ::-1]).all() and (flipped_mask == mask[:, ::-1]).all()
    assert same != both


def test_half_of_the_images_are_flipped():
    image = np.array([[[0], [1]]], np.uint8)
    count = sum(
        int(augment.random_flip(image, image, seed_of((3, i)))[0][0, 0, 0]) for i in range(400)
    )
    assert 160 < count < 240


@pytest.mark.parametrize("seed", [(0, 0), (1, 2), (-5, 9)])
def test_the_same_seed_gives_the_same_result_eagerly_and_in_a_pipeline(seed):
    def draw(place):
        own = tf.stack([tf.constant(seed[0], tf.int64), place + seed[1]])
        window = augment.sample_window(tf.constant(375), tf.constant(500), 0.3, 1.5, own)
        image = tf.reshape(tf.range(12), [2, 2, 3])
        flipped, _ = augment.random_flip(image, image[..., :1], own)
        return window, flipped

    places = tf.data.Dataset.range(10)
    for place, (window, flipped) in zip(range(10), places.map(draw), strict=True):
        eager = draw(tf.constant(place, tf.int64))
        assert (window.numpy() == eager[0].numpy()).all()
        assert (flipped.numpy() == eager[1].numpy()).all()
