"""Predicts the masks of pictures and videos, and writes them."""

import collections
import contextlib
from collections.abc import Iterator, Sequence

import numpy as np

from petseg import device_memory
from petseg.inference import output_files, outputs, run_length_file, video
from petseg.inference.jobs import PredictionJob
from petseg.inference.outputs import OutputOptions
from petseg.inference.picture_pipeline import PicturePipeline, one_line
from petseg.inference.predictor import Predictor
from petseg.inference.run_length_file import Row
from petseg.progress import Progress


def predict_files(
    predictor: Predictor, jobs: Sequence[PredictionJob], options: OutputOptions
) -> int:
    """Writes the output of every picture and video, at its full size.

    One that cannot be read is skipped alone, with a line on standard error. Of a video that
    ends early the readable frames are kept. Memory is bounded by what is under way.

    Args:
      predictor: the model.
      jobs: from jobs.plan_jobs.
      options: what is written.

    Returns:
      The number of pictures and videos that failed.

    Raises:
      UserError: the output cannot be written.
    """
    failed: list[PredictionJob] = []
    smaller = f"try a smaller --batch_size than {predictor.options.batch_size}"
    with device_memory.exhaustion_in_one_line(smaller), contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress(0, len(jobs), title="predict", unit="file"))

        def fail(job: PredictionJob, reason: str) -> None:
            failed.append(job)
            progress.advance()
            progress.warn(f"{job.source}: {reason}")

        table = None
        if options.run_lengths is not None:
            table = stack.enter_context(run_length_file.writing(options.run_lengths))

        def finish(rows: list[Row]) -> None:
            if table is not None:
                table.add(rows)
            progress.advance()

        pictures = [job for job in jobs if not job.is_video]
        PicturePipeline(predictor, options, finish, fail).run(pictures)
        for job in jobs:
            if job.is_video:
                try:
                    for number in _predict_video(predictor, job, options):
                        progress.show(f"{job.source.name}: frame {number + 1}")
                    progress.advance()
                except video.EndsEarly as error:
                    fail(job, str(error))
                except (OSError, ValueError) as error:
                    fail(job, f"cannot be read: {one_line(error)}")
    return len(failed)


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
            path = outputs.output_path(job.stem, kind, is_video=True)
            if kind in (outputs.OVERLAY, outputs.COLOURS):
                writers[kind] = stack.enter_context(video.writing(path, rate))
            else:
                folders[kind] = stack.enter_context(output_files.writing_frames(path))
        for number, prediction in enumerate(predictor.predict_each(images())):
            pixels, time_s = pending.popleft()
            for kind, writer in writers.items():
                drawn = outputs.draw(kind, pixels, prediction.class_ids, options)
                writer.add(video.Frame(drawn, time_s))
            for kind, folder in folders.items():
                path = folder / outputs.frame_name(number, kind)
                outputs.write(path, kind, pixels, prediction, options)
            yield number
    if early:
        raise early[0]
