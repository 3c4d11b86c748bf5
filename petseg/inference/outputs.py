"""What predict writes of a picture or a frame, and how files are written whole."""

import io
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from petseg.errors import UserError
from petseg.visualization import pictures

CLASS_IDS, COLOURS, OVERLAY, PROBABILITIES = "class_ids", "colours", "overlay", "probabilities"
KINDS = (CLASS_IDS, COLOURS, OVERLAY, PROBABILITIES)
_ENDINGS = {
    CLASS_IDS: "_mask.png",
    COLOURS: "_colours.png",
    OVERLAY: "_overlay.jpg",
    PROBABILITIES: "_probabilities.npz",
}
_OVERLAY_JPEG_QUALITY = 92
_FRAME = re.compile(r"\d{6,}\.(png|npz)")


def path_of(stem: Path, kind: str) -> Path:
    """Where one kind of output of a picture goes; `stem` is its path without an ending."""
    return stem.with_name(stem.name + _ENDINGS[kind])


def draw(kind: str, image: np.ndarray, shares: np.ndarray, table: np.ndarray) -> np.ndarray:
    """One kind of output as a picture.

    Args:
      kind: class_ids, colours or overlay.
      image: uint8 [height, width, 3].
      shares: float32 [height, width, classes], probabilities.
      table: colours, from pictures.palette.

    Returns:
      uint8 [height, width] class ids, or uint8 [height, width, 3].
    """
    class_ids = shares.argmax(-1).astype(np.uint8)
    if kind == OVERLAY:
        return pictures.overlay(image, class_ids, table)
    return table[class_ids] if kind == COLOURS else class_ids


def encode(
    kind: str, image: np.ndarray, shares: np.ndarray, table: np.ndarray, names: Sequence[str]
) -> bytes:
    """One kind of output as a file's content.

    Args:
      kind: class_ids (8-bit grey PNG), colours (RGB PNG), overlay (JPEG) or probabilities
        (npz: probabilities float16 [height, width, classes], class_names).
      image: as of `draw`, and so are shares and table.
      shares: see there.
      table: see there.
      names: of the classes.
    """
    content = io.BytesIO()
    if kind == PROBABILITIES:
        np.savez_compressed(
            content, probabilities=shares.astype(np.float16), class_names=np.array(names)
        )
    elif kind == OVERLAY:
        drawn = Image.fromarray(draw(kind, image, shares, table))
        drawn.save(content, "JPEG", quality=_OVERLAY_JPEG_QUALITY)
    else:
        Image.fromarray(draw(kind, image, shares, table)).save(content, "PNG")
    return content.getvalue()


def write_whole(path: Path, content: bytes) -> None:
    """Writes under a temporary name, then renames: no half file keeps its name.

    Raises:
      UserError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"--output_dir: cannot write {path}: {error.strerror}") from error


def begin_folder(folder: Path) -> None:
    """Removes what an interrupted command left of a folder of frames.

    Raises:
      UserError: a folder of that name holds something else, which would be lost.
    """
    if folder.exists() and not all(_FRAME.fullmatch(path.name) for path in folder.iterdir()):
        raise UserError(f"--output_dir: {folder} holds more than frames; name another folder")
    shutil.rmtree(unfinished_folder(folder), ignore_errors=True)


def name_folder(folder: Path) -> None:
    """Gives a finished folder its name, in place of an earlier one; none if it has no frame."""
    unfinished = unfinished_folder(folder)
    if unfinished.exists():
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.replace(folder)


def frame_path(folder: Path, number: int, suffix: str) -> Path:
    """Where a frame is written, in a folder that is not finished."""
    return unfinished_folder(folder) / f"{number:06d}{suffix}"


def unfinished_folder(folder: Path) -> Path:
    """Where a folder's files are while not all of them are there."""
    return folder.with_name(folder.name + ".tmp")
