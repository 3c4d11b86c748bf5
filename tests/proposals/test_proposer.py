"""Proposals of a model whose objectness and masks are known: it sees red."""

import numpy as np
import pytest
import tensorflow as tf

from petseg.models.segmentation_model import Outputs
from petseg.proposals.proposer import Proposer, ProposerOptions, paste, tight_box
from petseg.proposals.pyramid import PyramidLevel, PyramidOptions
from petseg.proposals.suppression import box_ious

SIDE, SHARE = 32, 0.5
RED, GREY = np.array([255, 0, 0]), np.array([90, 90, 90])


class SeesRed:
    """A red object of half a window's side is most probable; its mask is what is red."""

    level_stages = ("only",)

    def features(self, known, stages):
        assert stages == ["only"]
        return [known["image"]]

    def presence(self, images, training):
        assert not training
        red = self._red(images)
        x = tf.range(SIDE, dtype=tf.float32) + 0.5 - SIDE / 2
        mass = tf.maximum(tf.reduce_sum(red, [1, 2]), 1.0)
        off = [
            tf.reduce_sum(red * axis, [1, 2]) / mass for axis in (x[None, :, None], x[None, None])
        ]
        wrong = tf.abs(tf.math.log(mass / (SHARE * SIDE) ** 2))
        logit = 4.0 - 4.0 * wrong - tf.abs(off[0]) - tf.abs(off[1])
        return tf.stack([logit, -logit], 1)

    def outputs(self, known):
        red = self._red(known["image"])
        return Outputs(tf.stack([20.0 * red - 10.0, tf.zeros_like(red)], -1))

    def _red(self, images):
        pixels = tf.cast(images, tf.float32)
        return tf.clip_by_value((pixels[..., 0] - pixels[..., 1]) / 255, 0, 1)


def make_proposer(**changes) -> Proposer:
    options = PyramidOptions(SIDE, SHARE, 0.15, 5)
    return Proposer(SeesRed(), ProposerOptions(options, object_class=0, **changes))


def with_squares(sides, *squares) -> np.ndarray:
    image = np.tile(GREY, (*sides, 1)).astype(np.uint8)
    for left, top, side in squares:
        image[top : top + side, left : left + side] = RED
    return image


@pytest.mark.parametrize("square", [(100, 40, 60), (0, 0, 110), (190, 120, 50), (60, 3, 150)])
def test_the_best_proposal_is_the_object(square):
    image = with_squares((170, 240), square)
    proposals = make_proposer().propose(image)
    truth = (image == RED).all(-1)
    best = proposals.masks[0]
    assert (best & truth).sum() / (best | truth).sum() > 0.85
    left, top, side = square
    assert box_ious(proposals.boxes[:1], np.array([[left, top, side, side]]))[0, 0] > 0.85
    assert proposals.scores[0] > 0.6


def test_two_objects_are_two_proposals_and_none_overlaps_a_better_one():
    proposer = make_proposer(max_iou=0.5)
    image = with_squares((170, 240), (20, 20, 60), (150, 80, 70))
    proposals = proposer.propose(image)
    objects = np.array([[20, 20, 60, 60], [150, 80, 70, 70]])
    # Both together are an object, too, to this model.
    assert (box_ious(proposals.boxes[:3], objects) > 0.8).any(0).all()
    ious = box_ious(proposals.boxes, proposals.boxes) - np.eye(len(proposals.boxes))
    assert ious.max() <= 0.5
    assert (np.diff(proposals.scores) <= 0).all()
    for mask, box in zip(proposals.masks, proposals.boxes, strict=True):
        assert tight_box(mask) == tuple(box)
    assert proposals.masks.shape == (len(proposals.boxes), 170, 240)
    assert len(make_proposer(max_iou=0.5, count=1).propose(image).boxes) == 1


@pytest.mark.parametrize("sides", [(1, 1), (3, 400)])
def test_a_picture_without_an_object_has_no_mask(sides):
    proposals = make_proposer().propose(with_squares(sides))
    assert proposals.boxes.shape == (0, 4) and proposals.masks.shape == (0, *sides)


def test_batches_do_not_matter_and_passes_are_counted():
    image = with_squares((60, 90), (10, 10, 30))
    some = make_proposer(batch_size=7)
    one, other = some.propose(image), make_proposer(batch_size=64).propose(image)
    np.testing.assert_array_equal(one.boxes, other.boxes)
    figures = some.figures()
    assert figures["windows"] > figures["masks"] == 100
    assert 0 < figures["forward_share"] < 1


def test_pasted_values_are_those_of_a_plain_resize():
    """Where a window lies within the picture: of the same pixels, resized and put in place."""
    window = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    level = PyramidLevel((64, 64), np.array([]), np.array([]))
    same = paste(window, level, (8, -5), (64, 64))
    np.testing.assert_allclose(same[8 : 8 + SIDE, : SIDE - 5], window[:, 5:], rtol=1e-6)
    assert same.sum() == pytest.approx(window[:, 5:].sum(), rel=1e-5)
    twice = paste(window, level, (0, 32), (128, 128))
    expected = tf.image.resize(window[..., None], (64, 64))[..., 0]
    np.testing.assert_allclose(twice[:64, 64:], expected, atol=1e-6)
    assert not twice[64:].any() and not twice[:, :64].any()
