import itertools

import numpy as np
import pytest

from petseg.visualization import fonts, pictures, proposals

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


@pytest.mark.parametrize("seed", range(8))
def test_no_text_hides_another_or_leaves_the_picture(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    image = np.zeros((*SIDES, 3), np.uint8)
    lefts, tops = rng.integers(0, 20, 5), rng.integers(0, 12, 5)
    if seed % 2:  # in the corner below on the right
        lefts, tops = lefts + SIDES[1] - 21, tops + SIDES[0] - 13
    boxes = np.stack([lefts, tops, SIDES[1] - lefts, SIDES[0] - tops], 1)
    areas, write = {}, fonts.write

    def recorded(pen, corner, text, fill="black"):
        areas[text] = fonts.box(pen, corner, text)
        write(pen, corner, text, fill)

    monkeypatch.setattr(fonts, "write", recorded)
    proposals.draw(image, boxes, np.linspace(0.9, 0.5, 5), masks_of(boxes), count=5)
    assert sorted(areas) == ["1: 0.90", "2: 0.80", "3: 0.70", "4: 0.60", "5: 0.50"]
    for left, top, right, bottom in areas.values():
        assert left >= 0 and top >= 0 and right <= SIDES[1] and bottom <= SIDES[0]
    for one, other in itertools.combinations(areas.values(), 2):
        apart = one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]
        assert apart, (seed, areas)
