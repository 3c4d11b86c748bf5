"""Draws tiny data sets in the formats of annotation tools, and reads what sources make of them."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from petseg.conversion.sources.base import SourceListing, Unreadable

HEIGHT, WIDTH = 40, 60


def draw_images(folder: Path, names: list[str], size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """Writes noisy pictures of a height and width; returns the folder."""
    rng = np.random.default_rng(0)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(path)
    return folder


def write_json(path: Path, content: object) -> Path:
    """Writes a JSON file; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def box(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    """Returns the corners of a box."""
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def flat_box(left: float, top: float, right: float, bottom: float) -> list[float]:
    """Returns the corners of a box as COCO lists them."""
    return [number for point in box(left, top, right, bottom) for number in point]


def boxes(*drawn: tuple[int, int, int, int, int], size: tuple = (HEIGHT, WIDTH)) -> np.ndarray:
    """Returns a mask of (value, left, top, right, bottom), each over those before it."""
    mask = np.zeros(size, np.uint8)
    for value, left, top, right, bottom in drawn:
        mask[top:bottom, left:right] = value
    return mask


def rle(mask: np.ndarray) -> dict:
    """Encodes a mask as COCO does."""
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}


def runs(mask: np.ndarray) -> dict:
    """Encodes a mask as COCO's run lengths in numbers."""
    flat = np.concatenate([[0], mask.T.ravel().astype(int), [-1]])
    ends = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], ends + 0])).tolist()
    return {"size": list(mask.shape), "counts": counts}


def coco(images: Mapping[int, str], annotations: list[dict], categories: Mapping[int, str]) -> dict:
    """Returns a COCO file; annotations without an id are numbered."""
    return {
        "info": {"description": "toy"},
        "licenses": [],
        "images": [
            {"id": i, "file_name": name, "height": HEIGHT, "width": WIDTH}
            for i, name in images.items()
        ],
        "annotations": [
            {"id": number, "iscrowd": 0, "bbox": [0, 0, 1, 1], "area": 1.5, **annotation}
            for number, annotation in enumerate(annotations, 1)
        ],
        "categories": [
            {"id": i, "name": name, "supercategory": "thing"} for i, name in categories.items()
        ],
    }


def masks_of(listing: SourceListing) -> dict[str, np.ndarray | str]:
    """Returns the mask of each example, or why it cannot be read."""
    return {example.name: _mask(example.pair) for example in listing.examples}


def _mask(pair: object) -> np.ndarray | str:
    try:
        return np.array(Image.open(io.BytesIO(pair.read()[1])))
    except Unreadable as reason:
        return str(reason)


def reasons(listing: SourceListing) -> dict[str, str]:
    """Returns name -> reason of what is rejected while listing."""
    return {finding.name: finding.reason for finding in listing.rejected}
