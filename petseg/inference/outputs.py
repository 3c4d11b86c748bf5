"""What is written of a picture or a frame; no file or folder keeps its name while unfinished."""

import dataclasses
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
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclasses.dataclass(frozen=True)
class OutputOptions:
    """What is written of every picture.

    Attributes:
      kinds: some of KINDS.
      class_names: names of the classes.
      colours: uint8 [256, 3], RGB by class id; see pictures.palette.
    """

    kinds: tuple[str, ...]
    class_names: tuple[str, ...]
    colours: np.ndarray


def check_kinds(kinds: Sequence[str]) -> None:
    """Raises UserError if there is no kind of output, or an unknown one."""
    if not kinds:
        raise UserError(f"--write is empty; it may be any of {', '.join(KINDS)}")
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"--write: '{kind}' is not one of {', '.join(KINDS)}")


def parse_colours(texts: Sequence[str]) -> list[tuple[int, int, int]]:
    """Parses colours such as '#ffcc00'; raises UserError if one is malformed."""
    for text in texts:
        if not _COLOUR.fullmatch(text):
            raise UserError(f"--colours: '{text}' is not of the form #rrggbb")
    return [tuple(bytes.fromhex(text[1:])) for text in texts]


def replace_colours(
    table: np.ndarray, class_names: Sequence[str], colours: Sequence[tuple[int, int, int]]
) -> np.ndarray:
    """Replaces the colours of all classes.

    Args:
      table: uint8 [256, 3], RGB by class id.
      class_names: names of the classes.
      colours: one per class; empty to keep those of the table.

    Raises:
      UserError: there is not one colour per class.
    """
    if colours and len(colours) != len(class_names):
        raise UserError(
            f"--colours has {len(colours)} colours, the model {len(class_names)} classes: "
            f"{', '.join(class_names)}"
        )
    return np.concatenate([np.array(colours, np.uint8).reshape(-1, 3), table[len(colours) :]])


def output_path(stem: Path, kind: str) -> Path:
    """Where one kind of output goes; `stem` is its path without an ending."""
    return stem.with_name(stem.name + _ENDINGS[kind])


def draw(
    kind: str, image: np.ndarray, probabilities: np.ndarray, colours: np.ndarray
) -> np.ndarray:
    """Draws one kind of output.

    Args:
      kind: class_ids, colours or overlay.
      image: uint8 [height, width, 3], RGB.
      probabilities: float32 [height, width, classes].
      colours: uint8 [256, 3], RGB by class id.

    Returns:
      uint8 [height, width] class ids, or uint8 [height, width, 3].
    """
    class_ids = probabilities.argmax(-1).astype(np.uint8)
    if kind == OVERLAY:
        return pictures.overlay(image, class_ids, colours)
    return colours[class_ids] if kind == COLOURS else class_ids


def encode(
    kind: str, image: np.ndarray, probabilities: np.ndarray, options: OutputOptions
) -> bytes:
    """Encodes one kind of output as the content of a file.

    Args:
      kind: class_ids (8-bit grey PNG), colours (RGB PNG), overlay (JPEG) or probabilities
        (npz with probabilities, float16 [height, width, classes], and class_names).
      image: uint8 [height, width, 3], RGB.
      probabilities: float32 [height, width, classes].
      options: names and colours of the classes.
    """
    content = io.BytesIO()
    if kind == PROBABILITIES:
        np.savez_compressed(
            content,
            probabilities=probabilities.astype(np.float16),
            class_names=np.array(options.class_names),
        )
        return content.getvalue()
    drawn = Image.fromarray(draw(kind, image, probabilities, options.colours))
    if kind == OVERLAY:
        drawn.save(content, "JPEG", quality=_OVERLAY_JPEG_QUALITY)
    else:
        drawn.save(content, "PNG")
    return content.getvalue()


def write_file(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name, then renames it.

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
      UserError: a folder of that name has other files, which would be lost.
    """
    if folder.exists() and not all(_FRAME.fullmatch(path.name) for path in folder.iterdir()):
        raise UserError(f"--output_dir: {folder} holds more than frames; name another folder")
    shutil.rmtree(_unfinished(folder), ignore_errors=True)


def frame_path(folder: Path, number: int, suffix: str) -> Path:
    """Where a frame is written while its folder is unfinished."""
    return _unfinished(folder) / f"{number:06d}{suffix}"


def finish_folder(folder: Path) -> None:
    """Gives a finished folder its name, replacing an earlier one; does nothing without frames."""
    if _unfinished(folder).exists():
        shutil.rmtree(folder, ignore_errors=True)
        _unfinished(folder).replace(folder)


def _unfinished(folder: Path) -> Path:
    return folder.with_name(folder.name + ".tmp")
