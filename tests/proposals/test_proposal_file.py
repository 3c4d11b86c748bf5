import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from petseg.errors import UserError
from petseg.proposals import proposal_file
from petseg.proposals.proposer import Proposals, tight_box


def draw(rng: np.random.Generator, count: int, sides: tuple[int, int]) -> Proposals:
    masks = rng.random((count, *sides)) < 0.3
    boxes = np.array([tight_box(mask) for mask in masks], np.int64).reshape(-1, 4)
    return Proposals(boxes, np.sort(rng.random(count, np.float32))[::-1], masks)


def test_pycocotools_reads_what_was_proposed(tmp_path):
    rng = np.random.default_rng(0)
    pictures = {
        "a.jpg": draw(rng, 4, (13, 9)),
        "sub/none.png": draw(rng, 0, (5, 5)),
        "b.jpg": draw(rng, 2, (8, 21)),
    }
    with proposal_file.writing(str(tmp_path / "out")) as file:
        for name, proposals in pictures.items():
            file.add(name, proposals)
    with contextlib.redirect_stdout(io.StringIO()):
        images = COCO(tmp_path / "out" / "proposals_images.json")
        loaded = images.loadRes(str(tmp_path / "out" / "proposals.json"))
    assert len(loaded.anns) == 6
    for image in loaded.dataset["images"]:
        proposals = pictures.pop(image["file_name"])
        assert (image["height"], image["width"]) == proposals.masks.shape[1:]
        found = loaded.imgToAnns[image["id"]]
        assert [one["score"] for one in found] == [float(s) for s in proposals.scores]
        assert [one["bbox"] for one in found] == proposals.boxes.tolist()
        assert all(one["category_id"] == 1 for one in found)
        for one, mask in zip(found, proposals.masks, strict=True):
            np.testing.assert_array_equal(coco_mask.decode(one["segmentation"]), mask)
    assert not pictures


def test_of_an_interrupted_command_nothing_is_left(tmp_path):
    with pytest.raises(KeyboardInterrupt), proposal_file.writing(str(tmp_path)) as file:
        file.add("a.jpg", draw(np.random.default_rng(0), 3, (6, 6)))
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["proposals.json", "proposals_images.json"])
def test_another_file_is_not_replaced(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match="is there already"), proposal_file.writing(str(tmp_path)):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_without_any_proposal_it_is_an_empty_list(tmp_path):
    with proposal_file.writing(str(tmp_path)):
        pass
    assert json.loads((tmp_path / "proposals.json").read_text()) == []
