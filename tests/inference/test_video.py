"""Frames and their times, in videos as phones and editors write them."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from petseg.inference import video

av = pytest.importorskip("av")

MILLISECOND = Fraction(1, 1000)
# Two seconds of 30 frames each, then two of three each.
VARYING_MS = [round(i * 100 / 3) for i in range(60)] + [2000 + i * 333 for i in range(6)]


def write(path: Path, times_ms: list[int], codec: str = "mpeg4") -> Path:
    """A video of 32x16 pixels, frame i of grey 3 i, with a key frame every 50."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        stream.options, stream.bit_rate = {"g": "50"}, 10_000_000
        stream.codec_context.time_base = MILLISECOND
        for number, time_ms in enumerate(times_ms):
            pixels = np.full((16, 32, 3), 3 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.time_base, frame.pts = MILLISECOND, time_ms
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def copy(path: Path, target: Path, from_s: Fraction = Fraction(0), end_s: float = 1e9) -> Path:
    """The same packets in another file; one that begins later hides those before by a list."""
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(path)) as given, av.open(str(target), "w", options=options) as taken:
        stream = given.streams.video[0]
        new, shift = taken.add_stream_from_template(stream), int(from_s / stream.time_base)
        for packet in given.demux(stream):
            if packet.dts is not None and packet.pts * stream.time_base < end_s:
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = new
                taken.mux(packet)
    return target


def assert_shows(path: Path, numbers: range) -> None:
    """That the frames are those that `write` numbers so."""
    greys = [frame.pixels.mean() for frame in video.frames(path)]
    assert greys == pytest.approx([3 * number for number in numbers], abs=2.9)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_frames_that_an_edit_list_hides_are_not_missed(tmp_path, suffix):
    whole = write(tmp_path / f"a{suffix}", [40 * i for i in range(80)])
    trimmed = copy(whole, tmp_path / f"b{suffix}", Fraction(14, 5), 3.0)
    with av.open(str(trimmed)) as container:
        assert container.streams.video[0].frames > 20  # of which a player shows five
    assert_shows(trimmed, range(70, 75))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_video_of_varying_rate_is_whole(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", VARYING_MS)
    assert_shows(path, range(66))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("times_ms", [VARYING_MS, [40 * i for i in range(60)]])
def test_a_video_that_is_cut_off_ends_early(tmp_path, suffix, times_ms):
    path = write(tmp_path / f"a{suffix}", times_ms)
    content = _with_index_first(path) if suffix == ".mp4" else path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4 if suffix == ".mp4" else len(content) // 2])
    kept = []
    with pytest.raises(video.EndsEarly, match=r"(ends|damaged) after \d+ frames"):
        kept.extend(frame.time_s for frame in video.frames(path))
    assert 2 < len(kept) < len(times_ms)


def _with_index_first(path: Path) -> bytes:
    options = {"movflags": "faststart"}
    target = path.with_name("first.mp4")
    with av.open(str(path)) as given, av.open(str(target), "w", options=options) as taken:
        new = taken.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.dts is not None:
                packet.stream = new
                taken.mux(packet)
    return target.read_bytes()


@pytest.mark.parametrize("times_ms", [VARYING_MS, [40 * i for i in range(9)], [500, 700, 1900]])
def test_each_frame_keeps_its_time(tmp_path, times_ms):
    path = write(tmp_path / "a.mp4", times_ms)
    times_ms = [time_ms - times_ms[0] for time_ms in times_ms]
    with video.writing(tmp_path / "out.mp4", video.frame_rate(path)) as writer:
        for frame in video.frames(path):
            writer.add(frame)
    found = [frame.time_s for frame in video.frames(tmp_path / "out.mp4")]
    assert [round(1000 * time_s) for time_s in found] == times_ms


def test_frames_without_times_come_at_the_files_rate_and_no_two_at_once(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    given = (None, None, Fraction(1, 10), Fraction(1, 10), Fraction(3, 10))
    with video.writing(tmp_path / "a.mp4", Fraction(50)) as writer:
        for time_s in given[:2]:
            writer.add(video.Frame(pixels, time_s))
    assert [f.time_s for f in video.frames(tmp_path / "a.mp4")] == [0, Fraction(1, 50)]
    with video.writing(tmp_path / "b.mp4", Fraction(50)) as writer:
        for time_s in given[2:]:
            writer.add(video.Frame(pixels, time_s))
    times = [float(f.time_s) for f in video.frames(tmp_path / "b.mp4")]
    assert times == pytest.approx([0, 0, 0.2], abs=1e-4) and times[0] < times[1]
