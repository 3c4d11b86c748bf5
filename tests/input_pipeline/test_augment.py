import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from petseg.augmentation import Augmentation
from petseg.data.label_map import IGNORE
from petseg.image_size import sides_of
from petseg.input_pipeline import augment

SIZE = 48
SIZES = (SIZE, (32, 48), (48, 32))
EVERYTHING = Augmentation(
    max_rotation_degrees=30.0,
    max_shear_degrees=10.0,
    max_zoom=0.3,
    max_shift=0.1,
    brightness=0.3,
    contrast=0.3,
    saturation=0.5,
    max_hue_degrees=20.0,
    max_blur_sigma_px=1.5,
    cutout_area=0.2,
)
CHANGES = {
    "rotation": Augmentation(max_rotation_degrees=180.0),
    "shear": Augmentation(max_shear_degrees=30.0),
    "zoom": Augmentation(max_zoom=1.0),
    "shift": Augmentation(max_shift=0.5),
    "brightness": Augmentation(brightness=0.5),
    "contrast": Augmentation(contrast=0.5),
    "saturation": Augmentation(saturation=1.0),
    "hue": Augmentation(max_hue_degrees=180.0),
    "blur": Augmentation(max_blur_sigma_px=3.0),
    "cutout": Augmentation(cutout_area=0.5),
    "everything": EVERYTHING,
}


def pictures(count: int, seed: int = 0, size=SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Noise, with masks of the values 0, 3 and 7."""
    rng, sides = np.random.default_rng(seed), sides_of(size)
    return (
        rng.integers(0, 256, (count, *sides, 3)).astype(np.uint8),
        rng.choice([0, 3, 7], (count, *sides)).astype(np.uint8),
    )


def change(augmentation, images, masks, seed=1, step=0):
    sides = images.shape[1:3]
    drawn = augment.sample(augmentation, len(images), sides, seed, tf.cast(step, tf.int64))
    return augment.apply({"image": tf.constant(images), "mask": tf.constant(masks), **drawn})


@pytest.mark.parametrize("name", CHANGES)
def test_the_same_seed_gives_the_same_result_eagerly_and_in_a_pipeline(name):
    images, masks = pictures(3)
    steps = tf.data.Dataset.range(3).map(lambda step: change(CHANGES[name], images, masks, 7, step))
    for step, batch in enumerate(steps):
        eager = change(CHANGES[name], images, masks, 7, step)
        assert (batch["mask"].numpy() == eager["mask"].numpy()).all()
        # Compiled together, sums may be rounded another way.
        difference = batch["image"].numpy().astype(int) - eager["image"].numpy()
        assert np.abs(difference).max() <= 1
    again = change(CHANGES[name], images, masks, 7, 2)
    assert (again["image"].numpy() == eager["image"].numpy()).all()
    other = change(CHANGES[name], images, masks, 8, 2)
    assert (other["image"].numpy() != eager["image"].numpy()).any()


@pytest.mark.parametrize("name", CHANGES)
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(SIZES))
def test_masks_hold_values_that_they_held_or_ignore(name, seed, size):
    images, masks = pictures(2, seed, size)
    batch = change(CHANGES[name], images, masks, seed)
    assert set(np.unique(batch["mask"])) <= {0, 3, 7, IGNORE}
    assert batch["image"].dtype == tf.uint8 and batch["mask"].dtype == tf.uint8
    assert batch["image"].shape == images.shape and batch["mask"].shape == masks.shape
    assert set(batch) == {"image", "mask"}  # nothing is left for the model to trip over


@pytest.mark.parametrize("size", SIZES)
def test_images_turn_about_their_centre_and_are_shifted_by_shares_of_their_sides(size):
    height, width = sides_of(size)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])

    def move_of_the_centre(**changes):
        seed = tf.constant([3, 4], tf.int64)
        drawn = augment.sample_warps(Augmentation(**changes), 500, size, seed).numpy()
        linear, shift = drawn[:, [[0, 1], [3, 4]]], drawn[:, [2, 5]]
        return linear @ centre + shift - centre

    turned = move_of_the_centre(max_rotation_degrees=180.0, max_shear_degrees=30.0, max_zoom=1.0)
    assert np.abs(turned).max() < 1e-4
    shares = np.abs(move_of_the_centre(max_shift=0.25)) / (width, height)
    assert (shares.max(0) <= 0.25 + 1e-6).all() and (shares.max(0) > 0.24).all()


@pytest.mark.parametrize("name", ["rotation", "shear", "zoom", "shift"])
@pytest.mark.parametrize("size", SIZES)
def test_image_and_mask_move_together(name, size):
    """An image and a mask that both hold the coordinates of their pixels."""
    rows, columns = np.indices(sides_of(size), np.uint8)
    image = np.stack([4 * columns + 20, 4 * rows + 20, 0 * rows], -1)[None]
    for seed in range(10):
        for axis, mask in ((0, columns), (1, rows)):
            batch = change(CHANGES[name], image, mask[None], seed)
            moved, labels = batch["image"][0].numpy(), batch["mask"][0].numpy()
            inside = labels != IGNORE
            source = (moved[..., axis].astype(float) - 20) / 4
            # Half a pixel, and what 8 bits round off.
            assert np.abs(source - labels)[inside].max() <= 0.5 + 0.2
    assert inside.any()


def test_rotation_agrees_with_pillow():
    images, masks = pictures(1)
    smooth = np.asarray(Image.fromarray(images[0]).filter(ImageFilter.GaussianBlur(3)))
    drawn = augment.sample_warps(
        Augmentation(max_rotation_degrees=40.0), 1, SIZE, tf.constant([3, 4], tf.int64)
    )
    a0, a1, a2, b0, b1, b2 = drawn.numpy()[0, :6].astype(float).tolist()
    assert np.isclose(a0 * b1 - a1 * b0, 1)  # a rotation alone
    moved, labels = augment.warp(smooth[None], masks, drawn)
    # Pillow's matrix maps pixel corners, ours pixel centres.
    shifted = (a0, a1, a2 + 0.5 - 0.5 * (a0 + a1), b0, b1, b2 + 0.5 - 0.5 * (b0 + b1))
    expected = np.asarray(
        Image.fromarray(smooth).transform(
            (SIZE, SIZE), Image.Transform.AFFINE, shifted, Image.Resampling.BILINEAR
        )
    )
    inside = labels.numpy()[0] != IGNORE
    inside[[0, -1]] = inside[:, [0, -1]] = False
    difference = np.abs(moved.numpy()[0].astype(int) - expected)[inside]
    assert np.mean(difference <= 1) > 0.97  # the rest lies at the rotated border


def test_a_rotated_mask_is_ignored_outside_of_the_image():
    masks = np.zeros((1, SIZE, SIZE), np.uint8)
    images = np.full((1, SIZE, SIZE, 3), 255, np.uint8)
    eighth = np.float32(np.sqrt(0.5))
    middle = (SIZE - 1) / 2
    warps = np.array(
        [[eighth, -eighth, middle, eighth, eighth, middle - 2 * eighth * middle, 0, 0]], np.float32
    )
    labels = augment.warp(tf.constant(images), tf.constant(masks), warps)[1].numpy()[0]
    for corner in (labels[0, 0], labels[0, -1], labels[-1, 0], labels[-1, -1]):
        assert corner == IGNORE
    assert labels[SIZE // 2, SIZE // 2] == 0
    # A square turned by 45 degrees covers 2 (sqrt 2 - 1) of itself.
    assert abs((labels == 0).mean() - 2 * (np.sqrt(2) - 1)) < 0.02


def test_blur_agrees_with_a_sum_over_the_gaussian():
    images, _ = pictures(2)
    sigmas = np.array([0.0, 1.7], np.float32)
    blurred = augment.blur(tf.constant(images), sigmas).numpy()
    assert (blurred[0] == images[0]).all()
    expected = np.zeros((SIZE, SIZE, 3))
    for y in range(SIZE):
        for x in range(SIZE):
            rows, columns = np.mgrid[:SIZE, :SIZE]
            weights = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 1.7**2))
            expected[y, x] = (images[1] * weights[..., None]).sum((0, 1)) / weights.sum()
    assert np.abs(blurred[1] - expected).max() <= 0.51


def test_saturation_zero_is_grey_and_brightness_scales():
    images, _ = pictures(1)
    colours = augment.sample_colours(Augmentation(brightness=0.5), 1, tf.constant([0, 1], tf.int64))
    factor = float(colours[0, 0, 0])
    assert 0.5 <= factor <= 1.5
    np.testing.assert_allclose(colours[0, :, :3].numpy(), factor * np.eye(3), atol=1e-5)
    scaled = augment.recolour(tf.constant(images), colours).numpy()
    assert np.abs(scaled - np.clip(images * factor, 0, 255)).max() <= 0.51
    grey = np.tile([0.299, 0.587, 0.114], (3, 1))
    matrix = np.concatenate([grey, np.zeros((3, 1))], 1)[None].astype(np.float32)
    drained = augment.recolour(tf.constant(images), matrix).numpy()
    expected = np.asarray(Image.fromarray(images[0]).convert("L")).astype(int)
    assert np.abs(drained[0] - expected[..., None]).max() <= 1


def test_hue_and_saturation_leave_grey_as_it_is():
    grey = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    colours = augment.sample_colours(
        Augmentation(saturation=1.0, max_hue_degrees=180.0), 1, tf.constant([5, 1], tf.int64)
    )
    assert (
        np.abs(augment.recolour(tf.constant(grey), colours).numpy().astype(int) - grey).max() <= 1
    )


@pytest.mark.parametrize("size", SIZES)
def test_cutout_removes_squares_of_the_requested_sizes(size):
    images, masks = pictures(400, size=size)
    batch = change(Augmentation(cutout_area=0.25), images, masks)
    gone = (batch["mask"].numpy() == IGNORE) & (masks != IGNORE)
    kept = ~gone
    assert (batch["image"].numpy()[kept] == images[kept]).all()
    assert (batch["mask"].numpy()[kept] == masks[kept]).all()
    assert (batch["image"].numpy()[gone] == 128).all()
    shares = gone.mean(axis=(1, 2))
    assert shares.max() <= 0.28 and 0.06 < shares.mean() < 0.125  # half, less what the edge cuts


@pytest.mark.parametrize("size", SIZES)
def test_cutmix_pastes_the_same_rectangle_of_the_neighbour(size):
    images, masks = pictures(5, size=size)
    mixed_batches = 0
    for step in range(20):
        mixed, labels = augment.cutmix(
            tf.constant(images), tf.constant(masks), 0.5, 3, tf.constant(step, tf.int64)
        )
        mixed, labels = mixed.numpy(), labels.numpy()
        foreign = (mixed != images).any(axis=(0, 3))
        rows, columns = np.flatnonzero(foreign.any(1)), np.flatnonzero(foreign.any(0))
        mixed_batches += bool(rows.size)
        box = np.zeros(sides_of(size), bool)
        if rows.size:
            box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        for pasted, before in ((mixed, images), (labels, masks)):
            assert (pasted[:, ~box] == before[:, ~box]).all()
            assert (pasted[:, box] == before[[1, 0, 3, 2, 4]][:, box]).all()
    assert 4 <= mixed_batches <= 16


def test_nothing_is_drawn_for_what_is_off():
    assert augment.sample(Augmentation(), 4, SIZE, 0, tf.constant(0, tf.int64)) == {}
