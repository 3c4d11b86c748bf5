import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from petseg.image_size import sides_of
from petseg.input_pipeline import resizing, windows

SEEDS = st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
SIDES = st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 3000)), min_size=1, max_size=8)


SIZES = st.integers(8, 300) | st.tuples(st.integers(8, 300), st.integers(8, 300))


def draw(sides, min_area, max_aspect, seed, keep_aspect=False, size=32) -> np.ndarray:
    drawn = windows.sample_windows(min_area, max_aspect, len(sides), tf.constant(seed, tf.int64))
    heights, widths = np.array(sides, np.int32).T
    return windows.place_windows(
        tf.constant(heights), tf.constant(widths), drawn, keep_aspect, size
    ).numpy()


@settings(max_examples=100, deadline=None)
@given(SIDES, st.floats(0.01, 1.0), st.floats(1.0, 4.0), SEEDS, st.booleans(), SIZES)
def test_a_window_lies_inside_the_image(sides, min_area, max_aspect, seed, keep_aspect, size):
    placed = draw(sides, min_area, max_aspect, seed, keep_aspect, size)
    reduction, reduced = windows.choose_reductions(tf.constant(placed), size)
    for part in (placed, reduced.numpy()):
        for (height, width), (top, left, rows, columns) in zip(sides, part, strict=True):
            assert top >= 0 and left >= 0 and rows >= 1 and columns >= 1
            assert top + rows <= height and left + columns <= width
    factor = 2 ** reduction.numpy()[:, None]
    assert (reduced.numpy() % factor == 0).all()
    # No window is decoded smaller than its result, and none at twice the size needed.
    times_needed = (placed[:, 2:] / np.array(sides_of(size))).min(axis=1)
    assert (times_needed >= factor[:, 0])[factor[:, 0] > 1].all()
    assert (times_needed < 2 * factor[:, 0])[factor[:, 0] < 8].all()
    assert np.abs(reduced.numpy()[:, 2:] - placed[:, 2:]).max() <= 2 * (factor.max() - 1)


def test_windows_cover_the_requested_areas_aspects_and_positions():
    top, left, rows, columns = draw([(1000, 2000)] * 2000, 0.25, 1.5, (7, 1)).T
    area, aspect = rows * columns / 2e6, (columns / 2) / rows
    assert area.min() > 0.24 and area.max() <= 1
    assert 0.58 < area.mean() < 0.64  # uniform between 0.25 and 1, a little cut at the sides
    assert aspect.min() > 1 / 1.52 and aspect.max() < 1.52
    movable = rows < 800
    assert 0.47 < (top[movable] / (1000 - rows[movable])).mean() < 0.53
    movable = columns < 1600
    assert 0.47 < (left[movable] / (2000 - columns[movable])).mean() < 0.53
    # Independent of each other.
    assert abs(np.corrcoef(area, aspect)[0, 1]) < 0.15
    assert abs(np.corrcoef(top[movable] / (1001 - rows[movable]), left[movable])[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("size", "stored"), [(96, (1000, 2000)), ((64, 96), (1000, 2000)), ((96, 64), (2000, 1000))]
)
def test_with_keep_aspect_windows_are_near_to_the_aspect_of_the_input(size, stored):
    _, _, rows, columns = draw([stored] * 500, 0.1, 1.25, (7, 1), keep_aspect=True, size=size).T
    free = (rows < stored[0]) & (columns < stored[1])
    height, width = sides_of(size)
    distortion = (columns / rows / (width / height))[free]
    assert 0.79 < distortion.min() < 0.82 and 1.22 < distortion.max() < 1.26
    assert free.mean() > 0.3


def test_half_of_the_images_are_flipped():
    flips = windows.sample_flips(2000, tf.constant([3, 4], tf.int64)).numpy()
    assert 900 < flips.sum() < 1100


@pytest.mark.parametrize("seed", [(0, 0), (1, 2), (-5, 9)])
def test_the_same_seed_gives_the_same_result_eagerly_and_in_a_pipeline(seed):
    def sample(index):
        folded = tf.stack([tf.constant(seed[0], tf.int64), index + seed[1]])
        return windows.sample_windows(0.3, 1.5, 5, folded), windows.sample_flips(5, folded)

    for index, drawn in zip(range(10), tf.data.Dataset.range(10).map(sample), strict=True):
        for inside, eager in zip(drawn, sample(tf.constant(index, tf.int64)), strict=True):
            np.testing.assert_allclose(inside.numpy(), eager.numpy(), rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 70), st.integers(1, 70))
def test_sampling_takes_the_pixel_nearest_to_each_centre(height, width, rows, columns):
    mask = np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.uint8)
    got = resizing.sample(
        tf.constant(mask), resizing.nearest(0, height, rows), resizing.nearest(0, width, columns)
    ).numpy()
    for y in range(rows):
        for x in range(columns):
            assert (
                got[y, x]
                == mask[(2 * y + 1) * height // (2 * rows)][(2 * x + 1) * width // (2 * columns)]
            )


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 90), st.integers(3, 90), st.integers(8, 64), st.integers(8, 64))
def test_bilinear_agrees_with_its_definition(height, width, rows, columns):
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)
    got = windows.to_size(tf.constant(image), (rows, columns)).numpy()

    def weights(full: int, size: int) -> np.ndarray:
        position = np.clip((np.arange(size) + 0.5) * full / size - 0.5, 0, full - 1)
        return np.maximum(1 - np.abs(position[:, None] - np.arange(full)[None]), 0)

    down, across = weights(height, rows), weights(width, columns)
    expected = np.einsum("ih,hwc,jw->ijc", down, image.astype(float), across)
    assert np.abs(got - expected).max() <= 0.51


@pytest.mark.real_data
def test_windows_of_real_images_are_as_good_as_with_antialiasing(real_data):
    """Both are compared with Lanczos's filter of the fully decoded image."""

    def psnr(some: np.ndarray, other: np.ndarray) -> float:
        return 10 * np.log10(255**2 / np.mean((some.astype(float) - other) ** 2))

    ours, antialiased = [], []
    for index, path in enumerate(sorted((real_data / "oxford_pets/images").glob("B*.jpg"))[:40]):
        content = path.read_bytes()
        if not content.startswith(b"\xff\xd8"):
            continue
        pixels = tf.io.decode_jpeg(content, channels=3).numpy()
        placed = draw([pixels.shape[:2]], 0.25, 4 / 3, (5, index))
        reduction, placed = windows.choose_reductions(tf.constant(placed), 224)
        top, left, rows, columns = placed.numpy()[0]
        window = pixels[top : top + rows, left : left + columns]
        lanczos = np.asarray(Image.fromarray(window).resize((224, 224), Image.Resampling.LANCZOS))
        got = windows.to_size(
            windows.decode_window(content, placed[0], reduction[0]), (224, 224)
        ).numpy()
        ours.append(psnr(got, lanczos))
        antialiased.append(psnr(resizing.resize_image(window, 224).numpy(), lanczos))
    print(f"{np.mean(ours):.1f} dB, antialiased {np.mean(antialiased):.1f} dB")
    assert len(ours) > 20
    assert np.mean(ours) > np.mean(antialiased) - 1
    assert np.min(ours) > 22
