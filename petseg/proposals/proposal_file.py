"""The proposals of all pictures as COCO's result file, which pycocotools reads.

OUT/proposals.json         a list of results, each with image_id, category_id, bbox, segmentation
                           and score
OUT/proposals_images.json  names and sizes of the pictures by image_id: a data set of COCO's
                           without annotations
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from petseg.errors import UserError
from petseg.inference import output_files
from petseg.inference.output_kinds import PROPOSALS_FILE, PROPOSALS_IMAGES_FILE
from petseg.proposals.proposer import Proposals

CATEGORY_ID = 1
_CATEGORY = "object"


def check_free(output_dir: str) -> None:
    """Raises UserError if a file is there: a list cannot carry a mark of who made it."""
    for name in (PROPOSALS_FILE, PROPOSALS_IMAGES_FILE):
        path = Path(output_dir) / name
        if os.path.lexists(path):
            raise UserError(
                f"--output_dir: {path} is there already; move it away, or name another folder"
            )


def results(image_id: int, proposals: Proposals) -> list[dict]:
    """COCO's results of a picture, the best first.

    Args:
      image_id: Of the picture.
      proposals: Of the picture.
    """
    return [
        {
            "image_id": image_id,
            "category_id": CATEGORY_ID,
            "bbox": [float(side) for side in box],
            "segmentation": encode(mask),
            "score": float(score),
        }
        for box, score, mask in zip(proposals.boxes, proposals.scores, proposals.masks, strict=True)
    ]


def encode(mask: np.ndarray) -> dict:
    """COCO's compressed run lengths of a mask, bool [height, width], as JSON takes them."""
    encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode()}


class ProposalFile:
    """Two files that grow by one picture after the other."""

    def __init__(self, results_path: Path, images_path: Path):
        """Begins them; see `writing`."""
        self._results_path, self._images_path = results_path, images_path
        self._images: list[dict] = []
        self._is_empty = True
        with open(results_path, "w") as file:
            file.write("[")

    def add(self, name: str, proposals: Proposals) -> None:
        """Adds a picture.

        Args:
          name: Of its file.
          proposals: Of the picture.
        """
        image_id = len(self._images) + 1
        height, width = proposals.masks.shape[1:]
        self._images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        with open(self._results_path, "a") as file:
            for result in results(image_id, proposals):
                file.write(("" if self._is_empty else ",") + "\n" + json.dumps(result))
                self._is_empty = False

    def finish(self) -> None:
        """Ends them."""
        with open(self._results_path, "a") as file:
            file.write("\n]\n")
        content = {
            "info": {"description": output_files.MARK.decode()},
            "images": self._images,
            "categories": [{"id": CATEGORY_ID, "name": _CATEGORY}],
            "annotations": [],
        }
        self._images_path.write_text(json.dumps(content, indent=1) + "\n")


@contextlib.contextmanager
def writing(output_dir: str) -> Iterator[ProposalFile]:
    """Writes both files, which get their names once all pictures are in them.

    Raises:
      UserError: They cannot be written, or others are in their places.
    """
    check_free(output_dir)
    folder = Path(output_dir)
    with (
        output_files.writing(folder / PROPOSALS_FILE) as results_path,
        output_files.writing(folder / PROPOSALS_IMAGES_FILE) as images_path,
    ):
        file = ProposalFile(results_path, images_path)
        yield file
        file.finish()
