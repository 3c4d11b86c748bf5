import contextlib
import io

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from petseg.metrics.average_recall import (
    COUNTS,
    IOU_THRESHOLDS,
    average_recall,
    count_found,
    mask_ious,
)
from petseg.proposals.suppression import box_ious

SIDES = (24, 31)


def draw_masks(rng: np.random.Generator, count: int) -> np.ndarray:
    """Boxes with a bite taken out; some of them alike, so that proposals compete for objects."""
    masks = np.zeros((count, *SIDES), bool)
    for mask in masks:
        top, left = rng.integers(0, 3, 2) * 4
        height, width = rng.integers(3, 14, 2)
        mask[top : top + height, left : left + width] = True
        mask[top, left] = False
    return masks


def box_of(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [
        int(columns[0]),
        int(rows[0]),
        int(columns[-1] - columns[0]) + 1,
        int(rows[-1] - rows[0]) + 1,
    ]


def annotation(image_id: int, mask: np.ndarray, **more) -> dict:
    encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"image_id": image_id, "bbox": box_of(mask), "segmentation": encoded, **more}


def recall_of_coco(pictures, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Recall [counts, thresholds] and its mean, from pycocotools' own evaluation."""
    truth = COCO()
    truth.dataset = {
        "images": [
            {"id": n, "height": SIDES[0], "width": SIDES[1]} for n, _ in enumerate(pictures, 1)
        ],
        "categories": [{"id": 1}, {"id": 2}],
        "annotations": [],
    }
    results = []
    for image_id, (objects, masks, scores) in enumerate(pictures, 1):
        for index, mask in enumerate(objects):
            number = len(truth.dataset["annotations"]) + 1
            more = {"id": number, "iscrowd": 0, "area": int(mask.sum())}
            more["category_id"] = 1 + index % 2
            truth.dataset["annotations"].append(annotation(image_id, mask, **more))
        for mask, score in zip(masks, scores, strict=True):
            results.append(annotation(image_id, mask, score=float(score), category_id=1))
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.params.useCats = 0
        evaluation.params.maxDets = list(COUNTS)
        evaluation.evaluate()
        evaluation.accumulate()
    recall = evaluation.eval["recall"][:, 0, 0, :].T  # all areas
    return recall, recall.mean(1)


@pytest.mark.parametrize("kind", ["segm", "bbox"])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_that_of_pycocotools(seed, kind):
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(7):
        objects = draw_masks(rng, int(rng.integers(0, 6)))
        masks = draw_masks(rng, int(rng.integers(1, 130)))
        order = np.argsort(-rng.permutation(len(masks)))
        pictures.append((objects, masks[order], np.linspace(0.9, 0.1, len(masks))))
    found = []
    for objects, masks, _ in pictures:
        if kind == "segm":
            ious = mask_ious(masks, objects)
        else:
            boxes = [np.array([box_of(m) for m in one]).reshape(-1, 4) for one in (masks, objects)]
            ious = box_ious(*boxes)
        found.append(count_found(ious))
    total = sum(len(objects) for objects, _, _ in pictures)
    recall, mean = recall_of_coco(pictures, kind)
    assert len(np.unique(recall)) > 6  # it is not all or nothing
    np.testing.assert_allclose(np.sum(found, 0) / total, recall, atol=1e-12)
    np.testing.assert_allclose(average_recall(found, total), mean, atol=1e-12)


def test_without_proposals_or_objects_nothing_is_found():
    assert count_found(np.zeros((0, 3))).tolist() == np.zeros((3, 10), int).tolist()
    assert count_found(np.zeros((5, 0))).sum() == 0
    assert np.isnan(average_recall([count_found(np.zeros((5, 0)))], 0)).all()


def test_one_proposal_finds_one_object_at_every_threshold_up_to_its_iou():
    (at_one, *_) = count_found(np.array([[0.75, 0.2]]))
    np.testing.assert_array_equal(at_one, IOU_THRESHOLDS <= 0.75 + 1e-9)
