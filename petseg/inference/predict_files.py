"""Predicts the masks of pictures and videos, and writes them."""

import collections
import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from petseg.inference import outputs, video
from petseg.inference.jobs import PredictionJob
from petseg.inference.outputs import OutputOptions
from petseg.inference.predictor import Predictor


def predict_files(
    predictor: Predictor, jobs: Sequence[PredictionJob], options: OutputOptions
) -> int:
    """Writes the output of every picture and video, at its full size.

    One that cannot be read is skipped alone, with a line on standard error. Of a video that
    ends early the readable frames are kept. Memory does not grow with the number of files.

    Args:
      predictor: the model.
      jobs: from jobs.list_jobs.
      options: what is written.

    Returns:
      The number of pictures and videos that failed.

    Raises:
      UserError: the output cannot be written.
    """
    failed: list[PredictionJob] = []
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(
            tqdm(total=len(jobs), desc="predict", unit="file", disable=not sys.stderr.isatty())
        )

        def fail(job: PredictionJob, reason: str) -> None:
            failed.append(job)
            bar.update()
            bar.write(f"{job.source}: {reason}", file=sys.stderr)

        pictures = [job for job in jobs if not job.is_video]
        for _ in _predict_pictures(predictor, pictures, options, fail):
            bar.update()
        for job in jobs:
            if job.is_video:
                try:
                    for number in _predict_video(predictor, job, options):
                        bar.set_postfix_str(f"{job.source.name}: frame {number + 1}")
                    bar.update()
                except video.EndsEarly as error:
                    fail(job, str(error))
                except (OSError, ValueError) as error:
                    fail(job, f"cannot be read: {_one_line(error)}")
    return len(failed)


def _predict_pictures(
    predictor: Predictor,
    jobs: Sequence[PredictionJob],
    options: OutputOptions,
    fail: Callable[[PredictionJob, str], None],
) -> Iterator[PredictionJob]:
    """Reads and writes in threads, a few batches ahead and behind; yields what is predicted."""
    pending: collections.deque[tuple[PredictionJob, np.ndarray]] = collections.deque()
    writes: collections.deque[Future] = collections.deque()
    ahead = 2 * predictor.options.batch_size
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def images() -> Iterator[np.ndarray]:
            reads = _ahead(jobs, lambda job: pool.submit(_read_upright, job.source), ahead)
            for job, read in reads:
                try:
                    image = read.result()
                # Decoders of damaged files raise exceptions of every kind.
                except Exception as error:
                    fail(job, f"cannot be read: {_one_line(error)}")
                    continue
                pending.append((job, image))
                yield image

        def write(job: PredictionJob, image: np.ndarray, probabilities: np.ndarray) -> None:
            for kind in options.kinds:
                content = outputs.encode(kind, image, probabilities, options)
                outputs.write_file(outputs.output_path(job.stem, kind), content)

        for probabilities in predictor.predict_all(images()):
            job, image = pending.popleft()
            writes.append(pool.submit(write, job, image, probabilities))
            while len(writes) > ahead:
                writes.popleft().result()
            yield job
        for future in writes:
            future.result()


def _ahead(
    items: Iterable[PredictionJob], submit: Callable[[PredictionJob], Future], count: int
) -> Iterator[tuple[PredictionJob, Future]]:
    """Yields each item with its future result, of which `count` are under way."""
    waiting: collections.deque = collections.deque()
    for item in items:
        waiting.append((item, submit(item)))
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def _predict_video(
    predictor: Predictor, job: PredictionJob, options: OutputOptions
) -> Iterator[int]:
    """Writes overlay and colours as videos, class ids and probabilities as folders of frames.

    Yields the number of each frame.

    Raises:
      EndsEarly: not all frames could be read; the readable ones are written.
    """
    pending: collections.deque[video.Frame] = collections.deque()
    early: list[video.EndsEarly] = []

    def images() -> Iterator[np.ndarray]:
        try:
            for frame in video.frames(job.source):
                pending.append(frame)
                yield frame.pixels
        except video.EndsEarly as error:
            early.append(error)

    with contextlib.ExitStack() as stack:
        rate, writers, folders = video.frame_rate(job.source), {}, {}
        for kind in options.kinds:
            path = outputs.output_path(job.stem, kind)
            if kind in (outputs.OVERLAY, outputs.COLOURS):
                writer = video.writing(path.with_suffix(".mp4"), rate)
                writers[kind] = stack.enter_context(writer)
            else:
                folders[kind] = path.with_suffix("")
                outputs.begin_folder(folders[kind])
        for number, probabilities in enumerate(predictor.predict_all(images())):
            pixels, time_s = pending.popleft()
            for kind, writer in writers.items():
                drawn = outputs.draw(kind, pixels, probabilities, options.colours)
                writer.add(video.Frame(drawn, time_s))
            for kind, folder in folders.items():
                content = outputs.encode(kind, pixels, probabilities, options)
                suffix = outputs.output_path(job.stem, kind).suffix
                outputs.write_file(outputs.frame_path(folder, number, suffix), content)
            yield number
    for folder in folders.values():
        outputs.finish_folder(folder)
    if early:
        raise early[0]


def _read_upright(path: Path) -> np.ndarray:
    """Decodes a picture and turns it as its EXIF tag says, as a viewer shows it."""
    with Image.open(path) as image:
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
