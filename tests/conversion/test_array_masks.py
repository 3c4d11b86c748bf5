"""Masks as arrays, and of more than 8 bits: exact labels, or a reason."""

import io
import pickle
import zlib

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from testing.conversion import encoded

from petseg.conversion import array_masks, masks
from petseg.conversion.sources.base import MaskRules
from petseg.data.picture_file import BadFile

ANY = MaskRules(None)
LABELS = np.random.default_rng(0).integers(0, 256, (9, 11)).astype(np.uint8)


def npy(array: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def mat(packed: bool = True, **variables: object) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, variables, do_compression=packed)
    return file.getvalue()


def labels(content: bytes, rules: MaskRules = ANY) -> np.ndarray:
    mask = masks.check_mask(content, rules)
    return np.asarray(Image.open(io.BytesIO(mask.encoded)))


INTEGERS = [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, ">i2", ">u8"]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(INTEGERS), st.integers(1, 9), st.integers(2, 9), st.integers(0, 2**32))
def test_random_labels_come_back_exactly(dtype, height, width, seed):
    truth = np.random.default_rng(seed).integers(0, 256, (height, width))
    array = truth.astype(dtype)
    files = {
        "npy": npy(array),
        "npy by columns": npy(np.asfortranarray(array)),
        "mat": mat(labels=array),
        "mat, not packed": mat(False, labels=array),
        "mat of real numbers": mat(labels=truth.astype(float)),
        "SBD": mat(GTcls={"Segmentation": array, "Boundaries": [1, 2], "Other": truth}),
        "PNG of 16 bits": encoded(Image.fromarray(truth.astype(np.uint16)), "PNG"),
        "TIFF of 16 bits": encoded(Image.fromarray(truth.astype(np.uint16)), "TIFF"),
        "TIFF of 32 bits": encoded(Image.fromarray(truth.astype(np.int32)), "TIFF"),
    }
    for kind, content in files.items():
        np.testing.assert_array_equal(labels(content), truth, kind)


def test_what_was_done_is_noted():
    assert masks.check_mask(npy(LABELS), ANY).repair == "mask: NumPy, stored as PNG"
    assert masks.check_mask(mat(x=LABELS), ANY).repair == "mask: MATLAB, stored as PNG"
    deep = encoded(Image.fromarray(LABELS.astype(np.uint16)), "PNG")
    assert masks.check_mask(deep, ANY).repair == "mask: PNG, mode I;16, stored as 8 bits"


def test_truth_values_are_0_and_1():
    np.testing.assert_array_equal(labels(npy(LABELS > 99)), LABELS > 99)
    np.testing.assert_array_equal(labels(mat(x=LABELS > 99)), LABELS > 99)


class Harmful:
    """Its pickle would run code."""

    def __reduce__(self):
        return exec, ("raise SystemExit('ran')",)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (npy(LABELS * 1.0), "an array of float64; save labels as whole numbers"),
        (npy(LABELS[0]), r"1 dimensions, \(11,\); 2 are needed"),
        (npy(LABELS[..., None]), "3 dimensions"),
        (npy(np.array([[Harmful()]]), allow_pickle=True), "an array of object"),
        (b"\x93NUMPY" + pickle.dumps(Harmful()), "damaged or unreadable NumPy"),
        (npy(LABELS)[:-1], "damaged or unreadable NumPy"),
        (npy(LABELS) + b"x", "damaged or unreadable NumPy"),
        (npy(np.zeros((0, 5), np.uint8)), "claims 5x0 px"),
        (npy(LABELS.astype(int) - 1), r"not from 0 to 255, as labels are; .*: -1 \(\d px\)$"),
        (npy(np.array([[0, 256, 70000]])), r"256 \(1 px\), 70000 \(1 px\)"),
        (mat(), "0 matrices of whole numbers, one is needed; its matrices: none"),
        (mat(a=LABELS, b=LABELS), "2 matrices of whole numbers.*: a, b"),
        (mat(a=LABELS / 7), "0 matrices"),
        (b"MATLAB 7.3 MAT-file, " + bytes(600), "version 7.3; save it with -v7"),
        (mat(x=LABELS)[:-9], "damaged or unreadable MATLAB"),
    ],
)
def test_what_holds_no_labels_is_refused_with_the_reason(content, told):
    with pytest.raises(BadFile, match=told):
        masks.check_mask(content, ANY)


def test_a_file_that_claims_much_is_refused_before_it_is_read(monkeypatch):
    header = npy(LABELS).replace(b"(9, 11), }", b"(99999, 99999), }")
    with pytest.raises(BadFile, match="claims 99,999x99,999 px"):
        array_masks.read_array(header)
    monkeypatch.setattr(array_masks, "_MAX_BYTES", 1000)
    with pytest.raises(BadFile, match="unpacks to more than a mask needs"):
        array_masks.read_array(mat(x=np.zeros((99, 99), np.uint8)))
    array_masks.read_array(mat(x=LABELS))


def test_bits_that_cannot_be_read_are_not_dropped():
    # Of 16 bits a channel Pillow reads the upper eight.
    deep = np.repeat(LABELS.astype(">u2")[..., None], 3, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    chunks = [
        (b"IHDR", (11).to_bytes(4) + (9).to_bytes(4) + bytes([16, 2, 0, 0, 0])),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)
        for kind, data in chunks
    )
    with pytest.raises(BadFile, match="16 bits a channel, of which only 8 can be read"):
        masks.check_mask(content, ANY)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_damaged_array_is_refused_or_has_a_size(data):
    files = [
        npy(LABELS),
        mat(x=LABELS),
        mat(False, x=LABELS.astype(np.int32)),
        mat(False, GTcls={"Segmentation": LABELS}),
    ]
    content = bytearray(data.draw(st.sampled_from(files)))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    try:
        mask = masks.check_mask(bytes(content), ANY)
    except BadFile:
        return
    assert labels(bytes(content)).shape == (mask.height, mask.width)
