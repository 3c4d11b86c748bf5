"""Plans which pictures and videos are predicted, and where their output goes."""

import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from petseg.errors import UserError
from petseg.inference import video

STDIN = "-"
_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")


@dataclasses.dataclass(frozen=True)
class PredictionJob:
    """One picture or video.

    Attributes:
      source: path of its file.
      stem: path of its output without an ending; see outputs.output_path.
    """

    source: Path
    stem: Path

    @property
    def is_video(self) -> bool:
        """Whether it is a video, judged by its suffix."""
        return self.source.suffix.lower() in video.SUFFIXES


def list_jobs(paths: Sequence[str], output_dir: str) -> list[PredictionJob]:
    """Plans the output for files and folders; sub-folders are kept.

    Args:
      paths: files, folders, or '-' for a list of them on standard input, one per line.
      output_dir: folder of the output.

    Raises:
      UserError: a path does not exist, there is no picture or video, or two of them would
        write the same files.
    """
    jobs: dict[Path, PredictionJob] = {}
    for path in map(Path, _expand_stdin(paths)):
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        sources = _pictures_below(path) if path.is_dir() else [path]
        root = path if path.is_dir() else path.parent
        for source in sources:
            stem = Path(output_dir) / source.relative_to(root).with_suffix("")
            if stem in jobs and jobs[stem].source != source:
                raise UserError(
                    f"{jobs[stem].source} and {source} would both write {stem}_...; "
                    "predict them into different folders"
                )
            jobs[stem] = PredictionJob(source, stem)
    if not jobs:
        suffixes = " ".join((*_SUFFIXES, *video.SUFFIXES))
        raise UserError(f"no picture or video in {', '.join(paths)} (known suffixes: {suffixes})")
    if any(job.is_video for job in jobs.values()):
        video.check_available()
    return list(jobs.values())


def _expand_stdin(paths: Sequence[str]) -> Iterator[str]:
    for path in paths:
        if path == STDIN:
            # Lists from Windows end lines with CRLF, and may begin with a byte order mark.
            names = (line.removeprefix("\ufeff").rstrip("\r\n") for line in sys.stdin)
            yield from (name for name in names if name.strip())
        else:
            yield path


def _pictures_below(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            has_suffix = name.lower().endswith((*_SUFFIXES, *video.SUFFIXES))
            # macOS keeps metadata in files called ._NAME.
            if has_suffix and not name.startswith("._"):
                yield Path(parent) / name
