"""Reads and writes videos frame by frame with PyAV (extra `video`)."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from petseg.data import picture_file, regular_file
from petseg.errors import UserError
from petseg.inference import output_files

if TYPE_CHECKING:
    import av

SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")
_CODECS = ("libx264", "mpeg4")  # the first one available is used
_DEFAULT_RATE = Fraction(25)  # frames per second


class EndsEarly(Exception):
    """Not all frames of a video could be read; the message says how many could."""


def check_available() -> None:
    """Raises UserError if PyAV is not installed."""
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise UserError("videos need PyAV: pip install 'petseg[video]'") from error


def frame_rate(path: Path) -> Fraction:
    """Reads a video's frames per second.

    Raises:
      OSError, ValueError: it cannot be read as a video.
    """
    import av

    regular_file.open_regular(path, None).close()
    with av.open(str(path)) as container:
        return _video_stream(container).average_rate or _DEFAULT_RATE


def frames(path: Path) -> Iterator[np.ndarray]:
    """Decodes frames, uint8 [height, width, 3], RGB, rotated as the file says.

    Raises:
      EndsEarly: the file ends or is damaged before its last frame.
    """
    import av

    count = 0
    with av.open(str(path)) as container:
        stream = _video_stream(container)
        stream.thread_type = "AUTO"
        expected = stream.frames or _frames_by_duration(container)
        try:
            for frame in container.decode(stream):
                yield np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                count += 1
        except av.FFmpegError as error:
            raise EndsEarly(f"damaged after {count} frames ({error.strerror})") from error
    if count < max(expected, 1):
        raise EndsEarly(f"ends after {count} of {expected} frames")


@contextlib.contextmanager
def writing(path: Path, rate: Fraction) -> Iterator["Writer"]:
    """Writes an MP4 file, which gets its name once it is complete and has a frame."""
    import av

    with output_files.writing(path) as temporary:
        with av.open(str(temporary), "w", format="mp4") as container:
            container.metadata["comment"] = output_files.MARK.decode()
            writer = Writer(container, rate)
            yield writer
            writer.finish()
        if not writer.has_frames:
            temporary.unlink(missing_ok=True)


class Writer:
    """Encodes frames; the first one sets the size."""

    def __init__(self, container: "av.container.OutputContainer", rate: Fraction):
        self._container, self._rate, self._stream = container, rate, None

    @property
    def has_frames(self) -> bool:
        """Whether a frame was added."""
        return self._stream is not None

    def add(self, frame: np.ndarray) -> None:
        """Adds a frame, uint8 [height, width, 3]; odd sides are padded by repeating the edge."""
        import av

        odd = [(0, side % 2) for side in frame.shape[:2]]
        even = np.ascontiguousarray(np.pad(frame, [*odd, (0, 0)], mode="edge"))
        if self._stream is None:
            codec = next(name for name in _CODECS if name in av.codecs_available)
            self._stream = self._container.add_stream(codec, rate=self._rate)
            self._stream.height, self._stream.width = even.shape[:2]
            self._stream.pix_fmt = "yuv420p"
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))

    def finish(self) -> None:
        """Writes the frames that the encoder still buffers."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))


def _frames_by_duration(container: "av.container.InputContainer") -> int:
    """The least number of frames, from the duration, where the file gives no number."""
    stream = container.streams.video[0]
    # Sound may last longer than the pictures.
    if not container.duration or not stream.average_rate or len(container.streams) > 1:
        return 0
    return int(container.duration / 1_000_000 * stream.average_rate) - 1


def _video_stream(container: "av.container.InputContainer") -> "av.VideoStream":
    if not container.streams.video:
        raise ValueError("it holds no video")
    stream = container.streams.video[0]
    if stream.height * stream.width > picture_file.MAX_PIXELS:
        claim = f"claims frames of {stream.width:,}x{stream.height:,} px"
        raise ValueError(f"it {claim}; {picture_file.MAX_PIXELS:,} pixels are possible")
    return stream
