"""The file of run lengths that competitions take: a CSV with a row for each image and class."""

import contextlib
import csv
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from petseg.data import label_map, run_lengths
from petseg.errors import UserError
from petseg.inference import output_files
from petseg.inference.output_kinds import RLE_COLUMNS, RLE_FILE

Row = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class RunLengthOptions:
    """What the file holds.

    Attributes:
      path: where it goes.
      columns: their names: of the image, of the class and of the run lengths; or without that
        of the class.
      classes: names of the classes that have rows, by class id.
    """

    path: Path
    columns: tuple[str, ...]
    classes: dict[int, str]


def choose_options(
    output_dir: str, columns: Sequence[str], chosen: Sequence[str], class_names: Sequence[str]
) -> RunLengthOptions:
    """Chooses the classes that have rows: those asked for, or all but the background.

    Args:
      output_dir: folder of the file.
      columns: see RunLengthOptions; checked by check_columns.
      chosen: names of classes, in the order of an image's rows; empty for all but the background.
      class_names: of the model, by class id.

    Raises:
      UserError: one is no class of the model, or named twice; or there are several, and no column
        for their names.
    """
    for name in chosen:
        if name not in class_names:
            raise UserError(f"--rle_classes: '{name}' is not one of {', '.join(class_names)}")
        if chosen.count(name) > 1:
            raise UserError(f"--rle_classes names '{name}' twice")
    ids = [list(class_names).index(name) for name in chosen] or label_map.foreground(class_names)
    classes = {class_id: class_names[class_id] for class_id in ids}
    if not classes:
        raise UserError(
            f"--write=rle: every class is called background ({', '.join(class_names)}); "
            "name those that have rows with --rle_classes"
        )
    if len(columns) == 2 and len(classes) > 1:
        raise UserError(
            f"--rle_columns={','.join(columns)} has no column for the class, and there are "
            f"{len(classes)}: {', '.join(classes.values())}; name one with --rle_classes, or "
            "three columns"
        )
    return RunLengthOptions(Path(output_dir) / RLE_FILE, tuple(columns), classes)


def check_columns(columns: Sequence[str]) -> None:
    """Raises UserError unless there are two or three columns with different names."""
    if len(columns) not in (2, 3) or len(set(columns)) != len(columns) or "" in columns:
        raise UserError(
            f"--rle_columns={','.join(columns)} must be the names of three columns, for the "
            f"image, the class and the run lengths ({','.join(RLE_COLUMNS)}), or of two, without "
            "the class"
        )


def check_free(path: Path) -> None:
    """Raises UserError if a file is there: a CSV cannot carry a mark of who made it."""
    if os.path.lexists(path):
        raise UserError(
            f"--output_dir: {path} is there already, and does not say who made it; move it "
            "away, or name another folder"
        )


def rows(name: str, class_ids: np.ndarray, options: RunLengthOptions) -> list[Row]:
    """The rows of an image, which take a moment to encode.

    Args:
      name: of the image.
      class_ids: uint8 [height, width].
      options: which classes have rows.

    Returns:
      A row for each class, of an empty class too.
    """
    of_class = len(options.columns) == 3
    return [
        (name, *([class_name] if of_class else []), run_lengths.encode(class_ids == class_id))
        for class_id, class_name in options.classes.items()
    ]


class RunLengthFile:
    """A file that grows by the rows of one image after the other."""

    def __init__(self, file: TextIO, columns: Sequence[str]):
        """Writes the names of the columns."""
        self._writer, self.has_rows = csv.writer(file, lineterminator="\n"), False
        self._writer.writerow(columns)

    def add(self, of_image: Sequence[Row]) -> None:
        """Adds the rows of an image."""
        self._writer.writerows(of_image)
        self.has_rows = True


@contextlib.contextmanager
def writing(options: RunLengthOptions) -> Iterator[RunLengthFile]:
    """Writes a file, which gets its name once it is complete and has a row.

    Raises:
      UserError: it cannot be written, or another is in its place.
    """
    with output_files.writing(options.path) as temporary:
        # A name that is not UTF-8 keeps its bytes.
        options_of_text = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
        with open(temporary, "w", **options_of_text) as file:
            yield (written := RunLengthFile(file, options.columns))
        if not written.has_rows:
            temporary.unlink()
