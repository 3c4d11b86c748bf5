"""Plans which pictures and videos are predicted, and where their output goes."""

import collections
import dataclasses
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from petseg.errors import UserError, shown
from petseg.inference import output_files, output_kinds, outputs, run_length_file, video
from petseg.paths import check_local

STDIN = "-"
_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
_NAMED = 8  # files, in a note
_OTHER_SUFFIX = "no picture or video by their suffix"
_OWN_OUTPUT = "made by petseg-predict"
_LINKED = "links to folders"
_HIDDEN = "in hidden folders"


@dataclasses.dataclass(frozen=True)
class PredictionJob:
    """One picture or video.

    Attributes:
      source: path of its file.
      stem: path of its output without an ending; see outputs.output_path.
      name: the same below the output folder, such as 'sub/0001'.
    """

    source: Path
    stem: Path
    name: str

    @property
    def is_video(self) -> bool:
        """Whether it is a video, judged by its suffix."""
        return self.source.suffix.lower() in video.SUFFIXES


@dataclasses.dataclass(frozen=True)
class PredictionPlan:
    """What is predicted.

    Attributes:
      jobs: pictures and videos, each with an output of its own.
      notes: lines about what is left out, and about outputs with unusual names.
    """

    jobs: tuple[PredictionJob, ...]
    notes: tuple[str, ...]


def plan_jobs(paths: Sequence[str], output_dir: str, kinds: Sequence[str]) -> PredictionPlan:
    """Plans the output for files and folders; sub-folders are kept.

    What predict itself wrote is not predicted. Where only their suffixes tell two files apart,
    outputs keep them: a.png_mask.png.

    Args:
      paths: files, folders, or '-' for a list of them on standard input, one per line.
      output_dir: folder of the output.
      kinds: what is written of them; some of output_kinds.KINDS.

    Raises:
      UserError: a path does not exist, there is no picture or video, two of them would write the
        same files, or an output would replace a file that predict did not make; or run lengths
        are to be written of a video, or in place of a file.
    """
    check_local(output_dir, "--output_dir")
    skipped: dict[str, list[Path]] = collections.defaultdict(list)
    relative: dict[Path, Path] = {}  # source -> its place below its root
    for path in map(Path, _expand_stdin(paths)):
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        is_folder = path.is_dir()
        for source in _sources_below(path, skipped) if is_folder else [path]:
            if outputs.is_output_name(source) and output_files.is_ours(source):
                skipped[_OWN_OUTPUT].append(source)
            else:
                relative[source] = source.relative_to(path if is_folder else path.parent)
    notes = [_skipped_note(reason, of_reason) for reason, of_reason in skipped.items()]
    if not relative:
        suffixes = " ".join((*_SUFFIXES, *video.SUFFIXES))
        raise UserError(
            "; ".join(
                [f"no picture or video in {', '.join(paths)} (known suffixes: {suffixes})", *notes]
            )
        )
    stems = _distinct(relative, notes)
    jobs = tuple(
        PredictionJob(source, Path(output_dir) / stem, stem.as_posix())
        for source, stem in stems.items()
    )
    if output_kinds.RLE in kinds:
        run_length_file.check_free(Path(output_dir) / output_kinds.RLE_FILE)
    videos = [job.source for job in jobs if job.is_video]
    for kind in (output_kinds.RLE, *output_kinds.OF_PROPOSALS):
        if videos and kind in kinds:
            raise UserError(
                f"--write={kind} is for pictures, and {shown(str(videos[0]))} is a video; predict "
                "videos without it"
            )
    for job in jobs:
        for kind in set(kinds) & {*output_kinds.OF_EACH, output_kinds.PROPOSAL_PICTURES}:
            output_files.check_replaceable(outputs.output_path(job.stem, kind, job.is_video))
    if any(job.is_video for job in jobs):
        video.check_available()
    return PredictionPlan(jobs, tuple(notes))


def _expand_stdin(paths: Sequence[str]) -> Iterator[str]:
    for path in paths:
        if path == STDIN:
            # Lists from Windows end lines with CRLF, and may begin with a byte order mark.
            names = (line.removeprefix("\ufeff").rstrip("\r\n") for line in sys.stdin)
            yield from (name for name in names if name.strip())
        else:
            yield path


def _sources_below(folder: Path, skipped: dict[str, list[Path]]) -> Iterator[Path]:
    """Pictures and videos in a folder and its sub-folders; adds to what is skipped."""
    for parent, folders, names in os.walk(folder):
        for name in sorted(folders):
            if name.startswith(".") or os.path.islink(os.path.join(parent, name)):
                folders.remove(name)
                reason = _HIDDEN if name.startswith(".") else _LINKED
                skipped[reason].append(Path(parent, name))
        folders.sort()
        for name in sorted(names):
            # macOS keeps metadata in files called ._NAME.
            if name.startswith("._"):
                continue
            if name.lower().endswith((*_SUFFIXES, *video.SUFFIXES)):
                yield Path(parent, name)
            else:
                skipped[_OTHER_SUFFIX].append(Path(parent, name))


def _distinct(relative: dict[Path, Path], notes: list[str]) -> dict[Path, Path]:
    """Gives each source a stem of its own: its path without the suffix, or else with it."""
    stems = {source: path.with_suffix("") for source, path in relative.items()}
    while clashing := [
        source
        for sources in _by_stem(stems).values()
        for source in sources
        if len(sources) > 1 and stems[source] != relative[source]
    ]:
        stems |= {source: relative[source] for source in clashing}
    for stem, (first, *others) in _by_stem(stems).items():
        if others:
            raise UserError(
                f"{first} and {others[0]} would both write {stem}_...; "
                "predict them into different folders"
            )
    if kept := [source for source in stems if stems[source] == relative[source]]:
        named = _names(source for source in kept if source.suffix)
        if named:
            notes.append(f"outputs of files with one name keep the suffix: {named}")
    return stems


def _by_stem(stems: dict[Path, Path]) -> dict[Path, list[Path]]:
    sources: dict[Path, list[Path]] = collections.defaultdict(list)
    for source, stem in stems.items():
        sources[stem].append(source)
    return sources


def _skipped_note(reason: str, paths: Sequence[Path]) -> str:
    return f"skipped {len(paths):,} ({reason}): {_names(paths)}"


def _names(paths: Iterable[Path]) -> str:
    paths = list(paths)
    more = ", ..." if len(paths) > _NAMED else ""
    return ", ".join(shown(str(path)) for path in paths[:_NAMED]) + more
