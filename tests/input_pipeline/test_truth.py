"""Boxes around objects, and masks that training must not know."""

import numpy as np
import tensorflow as tf

from petseg.data.label_map import IGNORE
from petseg.input_pipeline.truth import TruthOptions, boxes_around, truth_of, withhold_masks

SEED = int(np.random.SeedSequence().entropy % 2**32)


def random_masks(rng, count, sides):
    """Masks of 0, 1, 2 and IGNORE, with an object somewhere, and one without."""
    masks = rng.choice([0, 2, IGNORE], (count, *sides)).astype(np.uint8)
    for mask in masks[1:]:
        for _ in range(rng.integers(1, 4)):
            mask[rng.integers(sides[0]), rng.integers(sides[1])] = 1
    return masks


def box_by_hand(mask, objects):
    rows, columns = np.nonzero(np.isin(mask, objects))
    if not len(rows):
        return [0, 0, 0, 0]
    height, width = mask.shape
    return [
        rows.min() / height, columns.min() / width,
        (rows.max() + 1) / height, (columns.max() + 1) / width,
    ]  # fmt: skip


def test_boxes_hold_all_pixels_of_the_objects_and_no_more():
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    for sides in ((7, 5), (1, 9), (32, 64)):
        masks = random_masks(rng, 6, sides)
        for objects in ((1,), (1, 2)):
            boxes = boxes_around(tf.constant(masks), objects).numpy()
            expected = np.array([box_by_hand(mask, objects) for mask in masks], np.float32)
            np.testing.assert_array_equal(boxes, expected)


def test_masks_of_the_other_classes_are_ignored_or_their_filled_boxes():
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    masks = random_masks(rng, 5, (8, 6))
    batch = {"mask": tf.constant(masks), "image_class": tf.constant([0, 1, 2, 0, 1], tf.int64)}
    kept = TruthOptions((1,), (False, True, False))
    truth = withhold_masks(truth_of(batch, kept), kept)
    for mask, known, is_kept in zip(masks, truth.mask.numpy(), (0, 1, 0, 0, 1), strict=True):
        np.testing.assert_array_equal(known, mask if is_kept else np.full_like(mask, IGNORE))
    # What is known of the other images stays known.
    expected = np.array([box_by_hand(mask, (1,)) for mask in masks], np.float32)
    np.testing.assert_array_equal(truth.box, expected)
    assert truth.image_class.numpy().tolist() == [0, 1, 2, 0, 1]

    boxes = TruthOptions((1,), (False, True, False), fills_box=True, background=2)
    truth = withhold_masks(truth_of(batch, boxes), boxes)
    for index in (0, 2, 3):
        rows, columns = np.nonzero(masks[index] == 1)
        filled = np.full_like(masks[index], 2)
        if len(rows):
            filled[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 1
        np.testing.assert_array_equal(truth.mask[index], filled)
    np.testing.assert_array_equal(truth.mask.numpy()[[1, 4]], masks[[1, 4]])


def test_without_classes_everything_is_known():
    masks = random_masks(np.random.default_rng(0), 3, (4, 4))
    truth = withhold_masks(truth_of({"mask": tf.constant(masks)}, TruthOptions()), TruthOptions())
    np.testing.assert_array_equal(truth.mask, masks)
    assert truth.image_class is None and truth.box is None
