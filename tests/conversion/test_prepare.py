"""One example: what is refused before anything is decoded, and files that are none."""

import dataclasses
import errno
import os

import numpy as np
import pytest
from PIL import Image
from testing.conversion import encoded

from petseg.conversion import prepare
from petseg.conversion.files import stored_file
from petseg.conversion.prepare import RecordOptions
from petseg.conversion.sources.base import FilePair, MaskRules, SourceExample
from petseg.data.image_range import ImageRange
from petseg.errors import FaultFound

OPTIONS = RecordOptions(MaskRules(None))
IMAGE = encoded(Image.new("RGB", (50, 40)), "JPEG")
MASK = encoded(Image.new("L", (50, 40)), "PNG")


@pytest.fixture
def prepared(tmp_path):
    """A function that prepares an image and a mask, each of some content or at some path."""

    def prepare_pair(image, mask):
        paths = []
        for name, given in (("image", image), ("mask", mask)):
            if isinstance(given, bytes):
                (tmp_path / name).write_bytes(given)
            paths.append(str(tmp_path / name if isinstance(given, bytes) else given))
        pair = FilePair(*map(stored_file, paths))
        return prepare.prepare_example(SourceExample("a", "train", pair), OPTIONS)

    return prepare_pair


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGB", "JPEG"), ("L", "JPEG"), ("RGBA", "PNG"), ("P", "GIF")]
)
def test_sizes_are_compared_before_anything_is_decoded(prepared, mode, kind):
    noise = np.random.default_rng(0).integers(0, 256, (400, 500, 3), np.uint8)
    image = encoded(Image.fromarray(noise).convert(mode), kind)
    cut = image[: len(image) // 2]  # a decoder would complain
    assert "damaged" in prepared(cut, encoded(Image.new("L", (500, 400)), "PNG")).rejected
    assert prepared(cut, MASK).rejected == "mask is 50x40 px, its image 500x400"


def test_a_mask_past_the_limit_is_told_before_its_image_is_decoded(prepared):
    bomb = encoded(Image.new("L", (20_000, 20_000)), "PNG")
    assert prepared(IMAGE[:-200], bomb).rejected.startswith("mask claims 20,000x20,000 px; 1 to ")
    assert prepared(bomb, MASK).rejected.startswith("image claims 20,000x20,000 px; 1 to ")


def test_a_pair_of_the_same_size_is_stored(prepared):
    done = prepared(IMAGE, MASK)
    assert (done.rejected, done.height, done.width) == (None, 40, 50)


def test_what_is_no_regular_file_is_rejected_at_once(prepared, tmp_path):
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    assert prepared(IMAGE, tmp_path / "fifo.png").rejected == (
        "mask cannot be read: it is a FIFO, not a regular file"
    )
    assert prepared(tmp_path / "zero.png", MASK).rejected == (
        "image cannot be read: it is a device, not a regular file"
    )


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.EACCES, errno.ENOMEM])
def test_what_another_run_may_read_is_not_rejected(prepared, tmp_path, monkeypatch, code):
    """It would be missing from the finished data set, which the same command keeps as it is."""
    for what, given in (
        ("image", (tmp_path / "image", MASK)),
        ("mask", (IMAGE, tmp_path / "mask")),
    ):
        for name, content in (("image", IMAGE), ("mask", MASK)):
            (tmp_path / name).write_bytes(content)
        real_open = os.open

        def fail(path, *arguments, what=what, real_open=real_open):
            if str(path) == str(tmp_path / what):
                raise OSError(code, os.strerror(code), path)
            return real_open(path, *arguments)

        monkeypatch.setattr(os, "open", fail)
        with pytest.raises(FaultFound, match=f"{what} cannot be read: {os.strerror(code)}.*again"):
            prepared(*given)
        monkeypatch.undo()
        assert prepared(*given).rejected is None


def test_a_file_that_is_not_there_is_rejected(prepared, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert prepared(tmp_path / "link", MASK).rejected == (
        "image cannot be read: No such file or directory"
    )


def test_whatever_decides_over_a_record_is_in_the_line_that_a_resume_compares():
    rules = MaskRules({0: "a", 3: "b"})
    changed = [
        RecordOptions(rules),
        RecordOptions(dataclasses.replace(rules, stored_as={4: 3})),
        RecordOptions(dataclasses.replace(rules, threshold=1)),
        RecordOptions(dataclasses.replace(rules, threshold=1, is_lossy_read=True)),
        RecordOptions(dataclasses.replace(rules, threshold=128, is_lossy_read=True)),
        RecordOptions(dataclasses.replace(rules, threshold=1, ignored=7)),
        RecordOptions(rules, image_range=ImageRange(0, 9)),
        RecordOptions(rules, image_range=ImageRange(0, 9, is_percent=True)),
        RecordOptions(rules, image_range=ImageRange(0, 9.5)),
    ]
    assert len({options.spec() for options in changed}) == len(changed)
