"""A data set's objects, cut out by their boxes, as a data set of its own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from petseg.data import manifest
from petseg.errors import UserError
from petseg.input_pipeline import stored_examples

_JPEG_QUALITY = 95


def write_crops(data_dir: str, raw_dir: str, names: Sequence[str]) -> None:
    """Writes each example's object, cut out by the box around it, in the official pets layout.

    The lists name the same examples, so that conversion divides them as it did the whole ones.

    Args:
      data_dir: A converted data set with raw labels 1 and 3 for objects, as the pets have.
      raw_dir: The folder to write; whatever is there of the same name is replaced.
      names: Of the images' classes.

    Raises:
      UserError: Its raw labels are others.
    """
    found, root = manifest.read_manifest(data_dir), Path(raw_dir)
    if found.source.get("source") != "oxford_iiit_pet":
        raise UserError(
            f"{data_dir}: objects are cut out of data sets in the pets layout alone; leave the "
            "arms crops and crops_oracle out"
        )
    trimaps = root / "annotations" / "trimaps"
    for folder in (root / "images", trimaps):
        folder.mkdir(parents=True, exist_ok=True)
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    for split, content in found.splits.items():
        for example in stored_examples.read_originals(manifest.shard_paths(data_dir, content)):
            rows, columns = np.nonzero(np.isin(example.mask, (1, 3)))
            inside = np.s_[:, :]
            if rows.size:
                inside = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            picture, mask = Image.fromarray(example.image[inside]), example.mask[inside]
            picture.save(
                root / "images" / f"{example.name}.jpg",
                quality=_JPEG_QUALITY,
                subsampling="4:4:4",
            )
            Image.fromarray(mask).save(trimaps / f"{example.name}.png")
            number = names.index(example.image_class) + 1
            lists["test" if split == "test" else "trainval"].append(
                f"{example.name} {number} 1 {number}\n"
            )
    for name, lines in lists.items():
        if lines:
            (root / "annotations" / f"{name}.txt").write_text("".join(sorted(lines)))
