"""Reads, predicts and writes pictures, each at the same time as the others."""

import collections
import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from petseg.cores import usable_cores
from petseg.data import picture_file, regular_file
from petseg.data.image_range import ImageRange
from petseg.inference import outputs, run_length_file
from petseg.inference.jobs import PredictionJob
from petseg.inference.outputs import OutputOptions
from petseg.inference.predictor import Prediction, Predictor
from petseg.inference.run_length_file import Row

_BYTES_IN_FLIGHT = 512 << 20  # 512 MiB; a picture that needs more is alone
# Decoded once by Pillow (4 bytes) and once as an array (3), or drawn (4) with its class ids (1).
_BYTES_PER_PIXEL = 8
_SMALL_REGIONS_BYTES = 4  # a pixel: another mask, and where its runs begin
_WINDOW_BYTES_PER_CLASS = 12  # sums, means and logits of sliding windows


class PicturePipeline:
    """Predicts pictures in batches; threads read ahead and write behind.

    Memory is bounded by what is under way, in bytes, not by a number of pictures.
    """

    def __init__(
        self,
        predictor: Predictor,
        options: OutputOptions,
        finish: Callable[[list[Row]], None],
        fail: Callable[[PredictionJob, str], None],
    ):
        """Prepares; `run` begins.

        Args:
          predictor: The model.
          options: What is written.
          finish: Called after each picture that is written, in their order, with its run
            lengths.
          fail: Called with each picture that is not, and why.
        """
        self._predictor, self._options = predictor, options
        self._finish, self._fail = finish, fail
        self._pool = ThreadPoolExecutor(usable_cores())
        self._reads: collections.deque[tuple[PredictionJob, int, Future]] = collections.deque()
        self._writes: collections.deque[tuple[PredictionJob, int, Future]] = collections.deque()
        self._in_flight = 0  # bytes

    def run(self, jobs: Sequence[PredictionJob]) -> None:
        """Predicts pictures; raises UserError if an output cannot be written."""
        ahead = 2 * self._predictor.options.batch_size
        value_range = self._predictor.options.image_range
        with self._pool:
            for job in jobs:
                needed = self._bytes_needed(job.source)
                while self._in_flight and self._in_flight + needed > _BYTES_IN_FLIGHT:
                    if self._reads:
                        self._predict_batch()
                    else:
                        self._end_write()
                self._in_flight += needed
                read = self._pool.submit(read_picture, job.source, value_range)
                self._reads.append((job, needed, read))
                if len(self._reads) > ahead:
                    self._predict_batch()
                while len(self._writes) > ahead:
                    self._end_write()
            while self._reads:
                self._predict_batch()
            while self._writes:
                self._end_write()

    def _predict_batch(self) -> None:
        """Predicts the oldest pictures, at most a batch, and begins to write their outputs."""
        batch = []
        while self._reads and len(batch) < self._predictor.options.batch_size:
            job, needed, read = self._reads.popleft()
            try:
                batch.append((job, needed, read.result()))
            # Decoders of damaged files raise exceptions of every kind.
            except Exception as error:
                self._in_flight -= needed
                self._fail(job, f"cannot be read: {one_line(error)}")
        predictions = self._predictor.predict_each([image for _, _, image in batch])
        for (job, needed, image), prediction in zip(batch, predictions, strict=True):
            write = self._pool.submit(_write, job, image, prediction, self._options)
            self._writes.append((job, needed, write))

    def _end_write(self) -> None:
        job, needed, write = self._writes.popleft()
        self._in_flight -= needed
        try:
            rows = write.result()
        except (OSError, ValueError) as error:
            self._fail(job, f"cannot be written: {one_line(error)}")
        else:
            self._finish(rows)

    def _bytes_needed(self, path: Path) -> int:
        """What a picture needs while it is under way, by its header."""
        try:
            with _opened(path) as picture:
                pixels = picture.height * picture.width
        except Exception:  # said when it is read
            return 0
        per_pixel, options = _BYTES_PER_PIXEL, self._predictor.options
        if options.postprocessing.min_area_px:
            per_pixel += _SMALL_REGIONS_BYTES
        if options.tta.sliding_windows:
            per_pixel += _WINDOW_BYTES_PER_CLASS * options.num_classes
        return pixels * per_pixel


def one_line(error: Exception) -> str:
    """What an exception says, in one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with (
        regular_file.open_regular(path) as file,
        picture_file.open_picture(file, "picture") as picture,
    ):
        yield picture


def read_picture(path: Path, value_range: ImageRange | None) -> np.ndarray:
    """Decodes a picture, upright: uint8 [height, width, 3], RGB.

    Args:
      path: Of its file.
      value_range: What becomes 0 and 255 of a picture of more than 8 bits.
    """
    with _opened(path) as picture:
        return picture_file.to_upright_array(picture, value_range)


def _write(
    job: PredictionJob, image: np.ndarray, prediction: Prediction, options: OutputOptions
) -> list[Row]:
    """Writes the files of a picture; returns its run lengths, which go to one file in order."""
    for kind in options.kinds:
        outputs.write(outputs.output_path(job.stem, kind), kind, image, prediction, options)
    if options.run_lengths is None:
        return []
    return run_length_file.rows(job.name, prediction.class_ids, options.run_lengths)
