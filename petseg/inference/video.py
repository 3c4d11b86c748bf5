"""Reads and writes videos frame by frame with PyAV (extra `video`)."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from petseg.data import picture_file, regular_file
from petseg.errors import UserError
from petseg.inference import output_files

if TYPE_CHECKING:
    import av

SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")
_CODECS = ("libx264", "mpeg4")  # the first one available is used
_MISSING = Fraction(19, 20)  # of a frame's time, at the end, shows that frames are missing
_TICK_S = Fraction(
    1, 60_000
)  # of time stamps; fits usual rates, and MPEG-4, whose limit is 1/65535
_DEFAULT_RATE = Fraction(25)  # frames per second


class EndsEarly(Exception):
    """Not all frames of a video could be read; the message says how many could."""


def check_available() -> None:
    """Raises UserError if PyAV is not installed."""
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise UserError("videos need PyAV: pip install av") from error


def frame_rate(path: Path) -> Fraction:
    """Reads a video's frames per second.

    Raises:
      OSError, ValueError: it cannot be read as a video.
    """
    import av

    regular_file.open_regular(path, None).close()
    with av.open(str(path)) as container:
        return _video_stream(container).average_rate or _DEFAULT_RATE


class Frame(NamedTuple):
    """A frame and when it is shown.

    Attributes:
      pixels: uint8 [height, width, 3], RGB, rotated as the file says.
      time_s: Seconds from the file's time 0; None if the file does not say.
    """

    pixels: np.ndarray
    time_s: Fraction | None


def frames(path: Path) -> Iterator[Frame]:
    """Decodes all frames that a player shows.

    Raises:
      EndsEarly: the file ends or is damaged before its last frame.
    """
    import av

    count, frame = 0, None
    with av.open(str(path)) as container:
        stream = _video_stream(container)
        stream.thread_type = "AUTO"
        try:
            for frame in container.decode(stream):
                pixels = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                yield Frame(pixels, None if frame.pts is None else frame.pts * frame.time_base)
                count += 1
        except av.FFmpegError as error:
            raise EndsEarly(f"damaged after {count} frames ({error.strerror})") from error
        if frame is None:
            raise EndsEarly("ends before its first frame")
        # A trimmed file holds frames that no player shows, and counts them.
        if not stream.frames or count < stream.frames:
            _check_end(container, stream, frame, count)


def _check_end(
    container: "av.container.InputContainer",
    stream: "av.VideoStream",
    last: "av.VideoFrame",
    count: int,
) -> None:
    """Raises EndsEarly if the last frame ends a frame or more before the video does."""
    if stream.duration:
        length_s = stream.duration * stream.time_base
    elif container.duration and len(container.streams) == 1:  # sound may last longer
        length_s = Fraction(container.duration, 1_000_000)
    else:
        return
    frame_s = 1 / (stream.average_rate or _DEFAULT_RATE)
    if last.duration:
        frame_s = last.duration * last.time_base
    if last.pts is None:
        end_s = count * frame_s
    else:
        end_s = (last.pts - (stream.start_time or 0)) * last.time_base + frame_s
    if length_s - end_s > _MISSING * frame_s:
        at = f"at {float(end_s):.2f} of {float(length_s):.2f} s"
        raise EndsEarly(f"ends after {count} frames, {at}")


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
    """Encodes frames; the first one sets the size, and is shown at time 0."""

    def __init__(self, container: "av.container.OutputContainer", rate: Fraction):
        self._container, self._rate, self._stream = container, rate, None
        self._first_s: Fraction | None = None
        self._ticks = -1  # of the last frame

    @property
    def has_frames(self) -> bool:
        """Whether a frame was added."""
        return self._stream is not None

    def add(self, frame: Frame) -> None:
        """Adds a frame, which keeps its time; odd sides are padded by repeating the edge."""
        import av

        odd = [(0, side % 2) for side in frame.pixels.shape[:2]]
        even = np.ascontiguousarray(np.pad(frame.pixels, [*odd, (0, 0)], mode="edge"))
        if self._stream is None:
            codec = next(name for name in _CODECS if name in av.codecs_available)
            self._stream = self._container.add_stream(codec, rate=self._rate)
            self._stream.height, self._stream.width = even.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = _TICK_S
            self._first_s = frame.time_s
        picture = av.VideoFrame.from_ndarray(even, format="rgb24")
        picture.time_base, picture.pts = _TICK_S, self._next_ticks(frame.time_s)
        self._container.mux(self._stream.encode(picture))

    def _next_ticks(self, time_s: Fraction | None) -> int:
        """When the next frame is shown; at a constant rate where the file does not say."""
        if time_s is None or self._first_s is None:
            ticks = self._ticks + round(1 / self._rate / _TICK_S) if self._ticks >= 0 else 0
        else:
            ticks = round((time_s - self._first_s) / _TICK_S)
        self._ticks = max(ticks, self._ticks + 1)  # no two at one time
        return self._ticks

    def finish(self) -> None:
        """Writes the frames that the encoder still buffers."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))


def _video_stream(container: "av.container.InputContainer") -> "av.VideoStream":
    if not container.streams.video:
        raise ValueError("it holds no video")
    stream = container.streams.video[0]
    if stream.height * stream.width > picture_file.MAX_PIXELS:
        claim = f"claims frames of {stream.width:,}x{stream.height:,} px"
        raise ValueError(f"it {claim}; {picture_file.MAX_PIXELS:,} pixels are possible")
    return stream
