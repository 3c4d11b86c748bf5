import numpy as np
import pytest

from petseg.visualization import pictures, proposals

SIDES = (80, 120)


def masks_of(boxes):
    masks = np.zeros((len(boxes), *SIDES), bool)
    for mask, (left, top, width, height) in zip(masks, boxes, strict=True):
        mask[top : top + height, left : left + width] = True
    return masks


def test_the_best_mask_is_on_top_and_what_no_proposal_covers_is_untouched():
    image = np.random.default_rng(0).integers(0, 256, (*SIDES, 3), np.uint8)
    boxes = np.array([[40, 30, 40, 40], [30, 20, 60, 55], [5, 40, 12, 12]])
    masks = masks_of(boxes)
    drawn = proposals.draw(image, boxes, np.array([0.9, 0.5, 0.1]), masks, count=2)
    covered = masks[:2].any(0)
    covered[20:48, 30:90] = True  # where texts may be
    np.testing.assert_array_equal(drawn[~covered], image[~covered])
    table = pictures.colours(2, {})
    inside = np.s_[56:66, 50:70]
    tinted = pictures.blend(image, np.broadcast_to(table[0], image.shape))
    np.testing.assert_array_equal(drawn[inside], tinted[inside])
    beside = np.s_[50:70, 84:88]
    tinted = pictures.blend(image, np.broadcast_to(table[1], image.shape))
    np.testing.assert_array_equal(drawn[beside], tinted[beside])
    assert (drawn[69, 40:80] == table[0]).all()  # the lower edge of the best box


@pytest.mark.parametrize("count", [0, 1, 9])
def test_a_picture_without_proposals_stays(count):
    image = np.full((*SIDES, 3), 7, np.uint8)
    drawn = proposals.draw(image, np.zeros((0, 4)), np.zeros(0), np.zeros((0, *SIDES), bool), count)
    np.testing.assert_array_equal(drawn, image)
