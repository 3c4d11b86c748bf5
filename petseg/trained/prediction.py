"""Masks and overlays of pictures that nobody has labelled."""

import dataclasses
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from petseg import inference, pictures
from petseg.errors import UserError
from petseg.training import workdir

_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
_OVERLAY_JPEG_QUALITY = 92


@dataclasses.dataclass(frozen=True)
class PredictionJob:
    """One picture and where its mask and overlay go."""

    image: Path
    mask: Path
    overlay: Path


def list_jobs(paths: Sequence[str], output_dir: str) -> list[PredictionJob]:
    """Plans the output of files and of folders, whose sub-folders are kept.

    Raises:
      UserError: a path does not exist, nothing is a picture, or two pictures would
        write the same mask.
    """
    jobs: dict[Path, PredictionJob] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        found = _pictures_below(path) if path.is_dir() else [path]
        root = path if path.is_dir() else path.parent
        for image in found:
            stem = Path(output_dir) / image.relative_to(root).with_suffix("")
            job = PredictionJob(image, stem.with_name(f"{stem.name}_mask.png"), _overlay_path(stem))
            if job.mask in jobs and jobs[job.mask].image != image:
                raise UserError(
                    f"{jobs[job.mask].image} and {image} would both write {job.mask}; "
                    "predict them into different folders"
                )
            jobs[job.mask] = job
    if not jobs:
        raise UserError(f"no picture in {', '.join(paths)} (looked for {' '.join(_SUFFIXES)})")
    return list(jobs.values())


def predict_files(run_dir: str, jobs: Sequence[PredictionJob], checkpoint: str = "newest") -> int:
    """Writes a class-id mask and an overlay for every picture, at its own size.

    A picture that cannot be read costs only itself: a line on standard error.

    Args:
      run_dir: the run.
      jobs: from `list_jobs`.
      checkpoint: 'newest', 'best' or a step.

    Returns:
      How many pictures failed.

    Raises:
      UserError: the run cannot be loaded, or the output cannot be written.
    """
    trained = workdir.load_trained(run_dir, checkpoint)
    segment = inference.make_segment(trained.model, trained.config.data.keep_aspect)
    failed = 0
    for job in tqdm(jobs, "predict", unit="image", disable=not sys.stderr.isatty()):
        try:
            image = _read_upright(job.image)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            reason = " ".join(str(error).split())
            tqdm.write(f"{job.image}: cannot be read: {reason}", file=sys.stderr)
            failed += 1
            continue
        class_ids = segment(image)
        drawn = pictures.overlay(image, class_ids, trained.label_map.num_classes)
        _save(job.mask, Image.fromarray(class_ids), "PNG")
        _save(job.overlay, Image.fromarray(drawn), "JPEG", quality=_OVERLAY_JPEG_QUALITY)
    return failed


def _pictures_below(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(_SUFFIXES) and not name.startswith("._"):
                yield Path(parent) / name


def _overlay_path(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}_overlay.jpg")


def _read_upright(path: Path) -> np.ndarray:
    """Decodes a picture, turned as its EXIF tag says: as a viewer shows it."""
    with Image.open(path) as image:
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def _save(path: Path, picture: Image.Image, kind: str, **options: int) -> None:
    """Writes under a temporary name, then renames: no half picture keeps its name."""
    encoded = io.BytesIO()
    picture.save(encoded, kind, **options)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_bytes(encoded.getvalue())
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"--output_dir: cannot write {path}: {error.strerror}") from error
