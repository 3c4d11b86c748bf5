"""What is written of a picture or a frame."""

import dataclasses
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from petseg.data.label_map import foreground
from petseg.errors import UserError
from petseg.inference import output_files
from petseg.inference.output_kinds import (
    CLASS_IDS,
    COLOURS,
    OVERLAY,
    PROBABILITIES,
    PROPOSAL_PICTURES,
)
from petseg.inference.predictor import Prediction
from petseg.inference.run_length_file import RunLengthOptions
from petseg.visualization import pictures

_ENDINGS = {
    CLASS_IDS: "_mask.png",
    COLOURS: "_colours.png",
    OVERLAY: "_overlay.jpg",
    PROBABILITIES: "_probabilities.npz",
    PROPOSAL_PICTURES: "_proposals.jpg",
}
_OVERLAY_JPEG_QUALITY = 92
_JPEG_MAX_SIDE_PX = 65_500  # libjpeg's
_VIDEO = ".mp4"
_FRAME = re.compile(r"\d{6,}\.png")
_DRAWN_PIXELS = 1 << 20  # at a time
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclasses.dataclass(frozen=True)
class OutputOptions:
    """What is written of every picture.

    Attributes:
      kinds: some of OF_EACH.
      class_names: names of the classes.
      colours: uint8 [256, 3], RGB by class id; see pictures.palette.
      run_lengths: the file of run lengths of all pictures; None for none.
    """

    kinds: tuple[str, ...]
    class_names: tuple[str, ...]
    colours: np.ndarray
    run_lengths: RunLengthOptions | None = None


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


def output_path(stem: Path, kind: str, is_video: bool = False) -> Path:
    """Where one kind of output goes.

    Args:
      stem: Its path without an ending.
      kind: One of OF_EACH, or PROPOSAL_PICTURES.
      is_video: Whether it is of a video: then a video, or a folder of frames.
    """
    path = stem.with_name(stem.name + _ENDINGS[kind])
    if not is_video:
        return path
    return path.with_suffix(_VIDEO if kind in (OVERLAY, COLOURS) else "")


def frame_name(number: int, kind: str) -> str:
    """The name of a frame in a folder of class ids or probabilities."""
    return f"{number:06d}{Path(_ENDINGS[kind]).suffix}"


def is_output_name(path: Path) -> bool:
    """Whether a picture or video is called as predict calls its outputs."""
    endings = [*_ENDINGS.values(), *(Path(_ENDINGS[k]).stem + _VIDEO for k in (OVERLAY, COLOURS))]
    return path.name.endswith(tuple(endings)) or bool(_FRAME.fullmatch(path.name))


def draw(kind: str, image: np.ndarray, class_ids: np.ndarray, options: OutputOptions) -> np.ndarray:
    """Draws the colours or the overlay of some rows.

    Args:
      kind: colours or overlay.
      image: uint8 [rows, width, 3], RGB.
      class_ids: uint8 [rows, width].
      options: Names and colours of the classes; an overlay leaves the background as it is.

    Returns:
      uint8 [rows, width, 3].
    """
    if kind == OVERLAY:
        coloured = foreground(options.class_names)
        return pictures.overlay(image, class_ids, options.colours, coloured)
    return options.colours[class_ids]


def write(
    path: Path, kind: str, image: np.ndarray, prediction: Prediction, options: OutputOptions
) -> None:
    """Writes one kind of output, some rows at a time, which bounds memory.

    Args:
      path: Where to; replaced only if predict made it.
      kind: class_ids (PNG of 8 bits a pixel, whose palette holds the classes' colours), colours
        (RGB PNG), overlay (JPEG) or probabilities (npz with probabilities, float16 [height,
        width, classes], and class_names).
      image: uint8 [height, width, 3], RGB.
      prediction: Of the image.
      options: Names and colours of the classes.

    Raises:
      UserError: The file cannot be written, or another is in its place.
      ValueError: The format cannot hold the picture.
    """
    if kind == OVERLAY and max(image.shape) > _JPEG_MAX_SIDE_PX:
        raise ValueError(f"an overlay is a JPEG, of at most {_JPEG_MAX_SIDE_PX:,} px a side")
    with output_files.writing(path) as temporary:
        if kind == PROBABILITIES:
            _write_probabilities(temporary, prediction, options.class_names)
        elif kind == CLASS_IDS:
            mask = Image.fromarray(prediction.class_ids)
            mask.putpalette(options.colours[: len(options.class_names)].tobytes())
            # Whatever the number of classes, a byte is a pixel.
            mask.save(temporary, "PNG", bits=8, pnginfo=_png_mark())
        else:
            drawn = _draw_whole(kind, image, prediction.class_ids, options)
            if kind == OVERLAY:
                drawn.save(
                    temporary, "JPEG", quality=_OVERLAY_JPEG_QUALITY, comment=output_files.MARK
                )
            else:
                drawn.save(temporary, "PNG", pnginfo=_png_mark())


def _draw_whole(
    kind: str, image: np.ndarray, class_ids: np.ndarray, options: OutputOptions
) -> Image.Image:
    height, width = class_ids.shape
    drawn = Image.new("RGB", (width, height))
    rows = max(_DRAWN_PIXELS // width, 1)
    for top in range(0, height, rows):
        part = slice(top, top + rows)
        drawn.paste(Image.fromarray(draw(kind, image[part], class_ids[part], options)), (0, top))
    return drawn


def _png_mark() -> PngImagePlugin.PngInfo:
    mark = PngImagePlugin.PngInfo()
    mark.add_text("Software", output_files.MARK)
    return mark


def _write_probabilities(path: Path, prediction: Prediction, class_names: Sequence[str]) -> None:
    """Writes what numpy.savez_compressed would, without holding it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = output_files.MARK
        with archive.open("probabilities.npy", "w", force_zip64=True) as file:
            header = {"descr": "<f2", "fortran_order": False, "shape": prediction.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for _, rows in prediction.strips():
                file.write(rows.astype("<f2").tobytes())
        with archive.open("class_names.npy", "w") as file:
            np.lib.format.write_array(file, np.array(class_names))
