import io
import struct

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from petseg.data import tfrecord

RECORDS = st.lists(st.binary(max_size=300), max_size=8)


@settings(deadline=None)
@given(RECORDS)
def test_frames_are_those_that_tensorflow_writes_and_reads(tmp_path_factory, records):
    folder = tmp_path_factory.mktemp("frames")
    with tf.io.TFRecordWriter(str(folder / "theirs")) as writer:
        for data in records:
            writer.write(data)
    ours = b"".join(map(tfrecord.frame, records))
    assert ours == (folder / "theirs").read_bytes()
    (folder / "ours").write_bytes(ours)
    assert [r.numpy() for r in tf.data.TFRecordDataset(str(folder / "ours"))] == records


@given(RECORDS)
def test_what_was_framed_is_read_back_with_its_place(records):
    content = b"".join(map(tfrecord.frame, records))
    frames = list(tfrecord.read_frames(io.BytesIO(content)))
    assert [frame.data for frame in frames] == records
    assert all(frame.intact for frame in frames)
    assert all(content[f.offset : f.offset + len(f.data)] == f.data for f in frames)


def test_every_flipped_bit_is_found_in_its_record():
    records = [b"first", b"second", b"third"]
    frames = [tfrecord.frame(data) for data in records]
    for index in range(3):
        start = sum(map(len, frames[:index]))
        for place in range(start, start + len(frames[index])):
            for bit in range(8):
                content = bytearray(b"".join(frames))
                content[place] ^= 1 << bit
                found = []
                try:
                    for frame in tfrecord.read_frames(io.BytesIO(bytes(content))):
                        found.append(frame.intact)
                    assert found == [i != index for i in range(3)]
                except tfrecord.DamagedFrame:
                    assert found == [True] * index


def test_every_cut_within_a_frame_is_found():
    frame = tfrecord.frame(b"some data")
    for length in range(1, len(frame)):
        with pytest.raises(tfrecord.DamagedFrame):
            list(tfrecord.read_frames(io.BytesIO(frame + frame[:length])))


@given(st.lists(st.binary(max_size=40), max_size=9), st.integers(1, 30))
def test_frames_are_counted_however_the_file_is_cut_into_chunks(records, size):
    content = b"".join(map(tfrecord.frame, records))
    counter = tfrecord.FrameCounter()
    for start in range(0, len(content), size):
        counter.add(content[start : start + size])
    assert counter.records == len(records)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5), st.data())
def test_a_frame_that_is_cut_does_not_count(records, data):
    content = b"".join(map(tfrecord.frame, records))
    cut = data.draw(st.integers(1, 15 + len(records[-1])))
    counter = tfrecord.FrameCounter()
    counter.add(content[:-cut])
    assert counter.records == len(records) - 1


def test_a_length_beyond_the_file_takes_no_memory():
    length = struct.pack("<Q", 1 << 60)
    header = length + tfrecord.frame(length)[-4:]
    with pytest.raises(tfrecord.DamagedFrame, match="the file ends within it"):
        list(tfrecord.read_frames(io.BytesIO(header + b"data")))
