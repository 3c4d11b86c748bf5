import numpy as np
import pytest

from petseg.proposals.suppression import box_ious, suppress


def draw(seed: int, count: int = 60):
    rng = np.random.default_rng(seed)
    boxes = np.concatenate([rng.integers(0, 20, (count, 2)), rng.integers(1, 15, (count, 2))], 1)
    return boxes, np.round(rng.random(count), 1)  # some scores are equal


def iou_by_pixels(one, other):
    planes = np.zeros((2, 40, 40), bool)
    for plane, (left, top, width, height) in zip(planes, (one, other), strict=True):
        plane[top : top + height, left : left + width] = True
    return (planes[0] & planes[1]).sum() / (planes[0] | planes[1]).sum()


def test_ious_are_those_of_pixels():
    boxes, _ = draw(0)
    expected = [[iou_by_pixels(one, other) for other in boxes[:9]] for one in boxes]
    np.testing.assert_allclose(box_ious(boxes, boxes[:9]), expected)
    assert box_ious(boxes, boxes[:0]).shape == (60, 0)


@pytest.mark.parametrize("max_iou", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_box_is_left_out_only_for_a_better_one_that_is_kept(seed, max_iou):
    boxes, scores = draw(seed)
    kept = suppress(boxes, scores, max_iou, 99).tolist()
    rank = {index: (-scores[index], index) for index in range(len(boxes))}
    assert kept == sorted(kept, key=rank.get)
    for index in range(len(boxes)):
        better = [k for k in kept if rank[k] < rank[index]]
        overlaps = [k for k in better if iou_by_pixels(boxes[k], boxes[index]) > max_iou]
        assert (index in kept) == (not overlaps)
    assert suppress(boxes, scores, max_iou, 5).tolist() == kept[:5]


def test_of_no_boxes_none_is_kept():
    assert suppress(np.zeros((0, 4)), np.zeros(0), 0.5, 3).tolist() == []
