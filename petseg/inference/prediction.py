"""Masks of pictures and videos that nobody has labelled."""

import collections
import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps
from tqdm import tqdm

from petseg.errors import UserError
from petseg.inference import forward, outputs, video
from petseg.inference.forward import Views
from petseg.run_dir import run_folder

STDIN = "-"
_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclasses.dataclass(frozen=True)
class PredictionJob:
    """One picture or video, and the path, without an ending, of what is written of it."""

    source: Path
    stem: Path

    @property
    def is_video(self) -> bool:
        """Whether it is a video, by its name."""
        return self.source.suffix.lower() in video.SUFFIXES


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """A trained model, ready for pictures of any size.

    Attributes:
      see: of forward.make_see.
      probabilities: of forward.make_probabilities.
      names: of the classes.
      table: their colours, from pictures.palette.
      batch_size: images that are computed together.
    """

    see: forward.See
    probabilities: Callable[..., tf.Tensor]
    names: tuple[str, ...]
    table: np.ndarray
    batch_size: int


def list_jobs(paths: Sequence[str], output_dir: str) -> list[PredictionJob]:
    """Plans the output of files and of folders, whose sub-folders are kept.

    Args:
      paths: files, folders, or '-' for a list of them on standard input, one a line.
      output_dir: where the output goes.

    Raises:
      UserError: a path does not exist, nothing is a picture or video, or two would write
        the same files.
    """
    jobs: dict[Path, PredictionJob] = {}
    for path in map(Path, _with_stdin(paths)):
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        found = _pictures_below(path) if path.is_dir() else [path]
        root = path if path.is_dir() else path.parent
        for source in found:
            stem = Path(output_dir) / source.relative_to(root).with_suffix("")
            if stem in jobs and jobs[stem].source != source:
                raise UserError(
                    f"{jobs[stem].source} and {source} would both write {stem}_...; "
                    "predict them into different folders"
                )
            jobs[stem] = PredictionJob(source, stem)
    if not jobs:
        suffixes = " ".join((*_SUFFIXES, *video.SUFFIXES))
        raise UserError(f"no picture or video in {', '.join(paths)} (looked for {suffixes})")
    if any(job.is_video for job in jobs.values()):
        video.check_available()
    return list(jobs.values())


def read_colours(spec: Sequence[str]) -> list[tuple[int, int, int]]:
    """Colours '#rrggbb'; raises UserError if one is anything else."""
    for text in spec:
        if not _COLOUR.fullmatch(text):
            raise UserError(f"--colours: '{text}' is not of the form #rrggbb")
    return [tuple(bytes.fromhex(text[1:])) for text in spec]


def load_segmenter(
    run_dir: str,
    checkpoint: str,
    views: Views,
    batch_size: int,
    colours: Sequence[tuple[int, int, int]],
) -> Segmenter:
    """Loads a run's model.

    Args:
      run_dir: the run.
      checkpoint: 'newest', 'best' or a step.
      views: how each image is looked at.
      batch_size: images that are computed together.
      colours: one a class; empty for those of the data set.

    Raises:
      UserError: the run cannot be loaded, or there are fewer or more colours than classes.
    """
    trained = run_folder.load_trained(run_dir, checkpoint)
    names, table, config = trained.label_map.names, trained.table.copy(), trained.config.data
    if colours and len(colours) != len(names):
        raise UserError(
            f"--colours has {len(colours)} colours, the model {len(names)} classes: "
            f"{', '.join(names)}"
        )
    if colours:
        table[: len(names)] = colours
    see = forward.make_see(
        trained.at_size, config.image_size, config.keep_aspect, batch_size, views
    )
    probabilities = forward.make_probabilities(views, len(names))
    return Segmenter(see, probabilities, names, table, batch_size)


def predict_files(segmenter: Segmenter, jobs: Sequence[PredictionJob], kinds: Sequence[str]) -> int:
    """Writes what is wanted of every picture and video, at its own size.

    One that cannot be read costs only itself: a line on standard error. Of a video that ends
    early the frames that are there are kept. Memory does not grow with the number of files.

    Args:
      segmenter: the model.
      jobs: from `list_jobs`.
      kinds: of outputs.KINDS.

    Returns:
      How many pictures and videos failed.

    Raises:
      UserError: the output cannot be written.
    """
    failed: list[PredictionJob] = []
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(
            tqdm(total=len(jobs), desc="predict", unit="file", disable=not sys.stderr.isatty())
        )
        pool = stack.enter_context(ThreadPoolExecutor(os.cpu_count()))

        def fail(job: PredictionJob, reason: str) -> None:
            failed.append(job)
            bar.update()
            bar.write(f"{job.source}: {reason}", file=sys.stderr)

        _predict_pictures(segmenter, [j for j in jobs if not j.is_video], kinds, pool, bar, fail)
        for job in jobs:
            if job.is_video:
                try:
                    _predict_video(segmenter, job, kinds, bar)
                    bar.update()
                except video.EndsEarly as error:
                    fail(job, str(error))
                except (OSError, ValueError) as error:
                    fail(job, f"cannot be read: {_one_line(error)}")
    return len(failed)


def _predict_pictures(
    segmenter: Segmenter,
    jobs: Sequence[PredictionJob],
    kinds: Sequence[str],
    pool: ThreadPoolExecutor,
    bar: tqdm,
    fail: Callable[[PredictionJob, str], None],
) -> None:
    """Reads ahead and writes behind in threads, a few batches at most."""
    shown: collections.deque[tuple[PredictionJob, np.ndarray]] = collections.deque()
    writing: collections.deque[Future] = collections.deque()
    ahead = 2 * segmenter.batch_size

    def images() -> Iterator[np.ndarray]:
        for job, reading in _ahead(jobs, lambda job: pool.submit(_read_upright, job.source), ahead):
            try:
                image = reading.result()
            # Decoders of damaged files raise whatever they stumble over.
            except Exception as error:
                fail(job, f"cannot be read: {_one_line(error)}")
                continue
            shown.append((job, image))
            yield image

    def write(job: PredictionJob, image: np.ndarray, shares: np.ndarray) -> None:
        for kind in kinds:
            content = outputs.encode(kind, image, shares, segmenter.table, segmenter.names)
            outputs.write_whole(outputs.path_of(job.stem, kind), content)

    for seen in segmenter.see(images()):
        job, image = shown.popleft()
        shares = segmenter.probabilities(seen, *np.int32(image.shape[:2])).numpy()
        writing.append(pool.submit(write, job, image, shares))
        while len(writing) > ahead:
            writing.popleft().result()
        bar.update()
    for future in writing:
        future.result()


def _ahead(
    items: Iterable[PredictionJob], submit: Callable[[PredictionJob], Future], count: int
) -> Iterator[tuple[PredictionJob, Future]]:
    """Each item with its result to come, of which `count` are under way."""
    waiting: collections.deque = collections.deque()
    for item in items:
        waiting.append((item, submit(item)))
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def _predict_video(
    segmenter: Segmenter, job: PredictionJob, kinds: Sequence[str], bar: tqdm
) -> None:
    """Overlay and colours become videos, class ids and probabilities a folder of frames.

    Raises:
      EndsEarly: what could be read is written.
    """
    shown: collections.deque[np.ndarray] = collections.deque()
    early: list[video.EndsEarly] = []

    def images() -> Iterator[np.ndarray]:
        try:
            for frame in video.frames(job.source):
                shown.append(frame)
                yield frame
        except video.EndsEarly as error:
            early.append(error)

    with contextlib.ExitStack() as stack:
        rate, writers, folders = video.frame_rate(job.source), {}, []
        for kind in kinds:
            path = outputs.path_of(job.stem, kind)
            if kind in (outputs.OVERLAY, outputs.COLOURS):
                made = stack.enter_context(video.writing(path.with_suffix(".mp4"), rate))
                writers[kind] = made
            else:
                outputs.begin_folder(path.with_suffix(""))
                folders.append(path.with_suffix(""))
        for number, seen in enumerate(segmenter.see(images())):
            frame = shown.popleft()
            shares = segmenter.probabilities(seen, *np.int32(frame.shape[:2])).numpy()
            for kind in kinds:
                if kind in writers:
                    writers[kind].add(outputs.draw(kind, frame, shares, segmenter.table))
                    continue
                path = outputs.path_of(job.stem, kind)
                content = outputs.encode(kind, frame, shares, segmenter.table, segmenter.names)
                folder = path.with_suffix("")
                outputs.write_whole(outputs.frame_path(folder, number, path.suffix), content)
            bar.set_postfix_str(f"{job.source.name}: frame {number + 1}")
    for folder in folders:
        outputs.name_folder(folder)
    if early:
        raise early[0]


def _with_stdin(paths: Sequence[str]) -> Iterator[str]:
    for path in paths:
        if path == STDIN:
            yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        else:
            yield path


def _pictures_below(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            is_shown = name.lower().endswith((*_SUFFIXES, *video.SUFFIXES))
            if is_shown and not name.startswith("._"):
                yield Path(parent) / name


def _read_upright(path: Path) -> np.ndarray:
    """Decodes a picture, turned as its EXIF tag says: as a viewer shows it."""
    with Image.open(path) as image:
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
