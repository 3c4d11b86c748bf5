import os
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from testing.conversion import encoded

from petseg.data import jpeg

RNG = np.random.default_rng(0)
PHOTOGRAPH = Image.fromarray(RNG.integers(0, 256, (9, 12, 3), np.uint8)).resize((200, 150))
JPEGS = tuple(
    encoded(PHOTOGRAPH, "JPEG", quality=quality, progressive=progressive, subsampling=subsampling)
    for quality in (75, 95)
    for progressive in (False, True)
    for subsampling in ("4:4:4", "4:2:0")
)


def verdicts(content: bytes) -> dict[int, bool]:
    """Whether a JPEG is whole, by scale."""
    found = {}
    for reduction in (1, 8):
        try:
            jpeg.decode_small(content, reduction)
            found[reduction] = True
        except jpeg.DamagedJpeg:
            found[reduction] = False
    return found


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(JPEGS),
    st.integers(0, 10**6),
    st.sampled_from(("flip", "cut", "drop", "fill")),
    st.integers(1, 255),
)
def test_at_an_eighth_the_same_faults_show(content, place, damage, amount):
    place %= len(content)
    damaged = {
        "flip": content[:place] + bytes([content[place] ^ amount]) + content[place + 1 :],
        "cut": content[:place],
        "drop": content[:place] + content[place + amount :],
        "fill": content[:place] + bytes(amount) + content[place + amount :],
    }[damage]
    found = verdicts(damaged)
    assert found[1] == found[8]
    if found[8]:
        assert tf.io.decode_jpeg(damaged).shape.rank == 3


@pytest.mark.real_data
def test_of_real_photographs_the_same_faults_show_and_most_are_found(real_data):
    paths = sorted((real_data / "oxford_pets" / "images").glob("Abyssinian_1*.jpg"))
    seed = int(np.random.default_rng().integers(1 << 30))
    print("seed", seed)
    rng = np.random.default_rng(seed)
    missed = 0
    for _ in range(300):
        content = bytearray(paths[rng.integers(len(paths))].read_bytes())
        assert verdicts(bytes(content)) == {1: True, 8: True}
        place = int(rng.integers(700, len(content)))
        if rng.random() < 0.5:
            del content[place:]
        else:
            del content[place : place + int(rng.integers(100, 4096))]
        found = verdicts(bytes(content))
        assert found[1] == found[8]
        missed += found[8]
    assert missed < 30


def test_what_is_decoded_is_the_picture_in_grey():
    small = jpeg.decode_small(JPEGS[0])
    expected = np.asarray(PHOTOGRAPH.convert("L").resize((25, 19), Image.Resampling.BOX))
    assert small.shape == (19, 25)
    assert np.abs(small[:18].astype(int) - expected[:18]).mean() < 6


def test_other_lines_on_standard_error_are_passed_on(capfd):
    with jpeg.complaints() as lines:
        os.write(2, b"Corrupt JPEG data: 7 extraneous bytes\nsomething else\n")
        print("and more", file=sys.stderr, flush=True)
    assert lines == ["7 extraneous bytes"]
    assert "something else" in capfd.readouterr().err
    with jpeg.complaints() as lines:
        pass
    assert lines == []


def test_a_picture_is_checked_where_standard_error_is_closed(monkeypatch):
    stderr = os.dup(2)
    os.close(2)
    monkeypatch.setattr(sys, "stderr", None)
    try:
        found = verdicts(JPEGS[0]), verdicts(JPEGS[0][:-500])
        opened = os.open(os.devnull, os.O_RDONLY)
        os.close(opened)
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    assert found == ({1: True, 8: True}, {1: False, 8: False})
    assert opened > 2
