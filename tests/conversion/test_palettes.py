import itertools
import random

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from testing.picture_files import draw_pairs

import petseg
from petseg.conversion import palettes
from petseg.data import manifest
from petseg.data.manifest import Finding
from petseg.errors import FaultFound

BLACK, RED, BLUE = (0, 0, 0), (255, 0, 0), (0, 0, 255)


def indexed(picture: np.ndarray, palette: list[tuple[int, int, int]]) -> Image.Image:
    """An indexed picture that looks like uint8 [height, width] of places in (BLACK, RED, BLUE)."""
    places = np.array([palette.index(colour) for colour in (BLACK, RED, BLUE)], np.uint8)
    drawn = Image.fromarray(places[picture]).convert("L")
    drawn = Image.frombytes("P", drawn.size, drawn.tobytes())
    drawn.putpalette([channel for colour in palette for channel in colour])
    return drawn


def convert(folder, palette_of, **arguments):
    """Converts eight pairs that look alike; palette_of says the order of each one's colours."""
    shape = np.zeros((32, 32), np.uint8)
    shape[:8], shape[8:12] = 1, 2
    raw = draw_pairs(folder / "raw", {f"m{number}": shape for number in range(8)})
    for number in range(8):
        indexed(shape, palette_of(number)).save(raw / "masks" / f"m{number}.png")
    return petseg.convert(
        str(raw), str(folder / "out"), source="folders", show_progress=False, workers=1, **arguments
    )


def orders(number):
    return [RED, BLACK, BLUE] if number in (2, 5, 6) else [BLACK, RED, BLUE]


def test_masks_whose_palettes_contradict_each_other_are_not_taken_silently(tmp_path):
    line = "0 is #000000 in 5 masks and #ff0000 in 3 .*--classes"
    with pytest.raises(FaultFound, match=line):
        convert(tmp_path, orders)
    convert(tmp_path, orders, accept_losses=True)  # the indices are right
    finished = manifest.read_manifest(str(tmp_path / "out"))
    assert {finding.name: finding.reason.rpartition(": ")[2] for finding in finished.repaired} == {
        f"m{number}": "0 #ff0000, 1 #000000, 2 #0000ff"
        if number in (2, 5, 6)
        else "0 #000000, 1 #ff0000, 2 #0000ff"
        for number in range(8)
    }


def test_with_colours_in_the_class_file_such_masks_are_equal(tmp_path):
    (tmp_path / "c.csv").write_text("0,ground,#000000\n1,pet,#ff0000\n2,edge,#0000ff\n")
    convert(tmp_path, orders, classes=str(tmp_path / "c.csv"))
    train = manifest.read_manifest(str(tmp_path / "out")).splits["train"]
    pixels = {0: 20 * 32, 1: 8 * 32, 2: 4 * 32}
    assert train.pixels_per_label == {v: n * train.records for v, n in pixels.items()}


def test_palettes_that_differ_in_colours_without_a_pixel_do_not_contradict(tmp_path):
    def longer(number):
        return [BLACK, RED, BLUE] + [(9 * number, 9, 9)] * number

    convert(tmp_path, longer)


def test_only_palettes_that_became_labels_are_compared():
    reasons = (
        "mask: PNG, palette, stored as its indices: 0 #000000, 7 #ffffff",
        "mask: BMP, palette, stored as its indices: 7 #ffffff, 12 #000000",
        "mask: TIFF, 8 bits, stored as PNG",
        "image: PNG, re-encoded as JPEG",
    )
    findings = [Finding(f"m{n}", "train", reason) for n, reason in enumerate(reasons)]
    assert palettes.contradiction(findings) is None
    findings.append(Finding("m9", "test", reasons[0].replace("#ffffff", "#fffffe")))
    assert "7 is #ffffff in 2 masks and #fffffe in 1" in palettes.contradiction(findings)


def test_eighteen_masks_with_fifteen_palettes_are_read_by_their_colours(tmp_path):
    """As in sets whose index 0 is land in one mask and a building in the next."""
    drawn = random.Random(0)
    colours = [(60, 16, 152), (132, 41, 246), (110, 193, 228), (254, 221, 58), (226, 169, 41)]
    orders = drawn.sample(list(itertools.permutations(colours)), 15)
    truths = np.random.default_rng(0).integers(0, 5, (18, 16, 16)).astype(np.uint8)
    raw = draw_pairs(tmp_path / "raw", {f"m{n:02}": truths[n] for n in range(18)})
    for number, truth in enumerate(truths):
        order = orders[number % 15]
        places = np.array([order.index(colour) for colour in colours], np.uint8)[truth]
        picture = Image.frombytes("P", (16, 16), places.tobytes())
        picture.putpalette([channel for colour in order for channel in colour])
        picture.save(raw / "masks" / f"m{number:02}.png")
    options = {"source": "folders", "show_progress": False, "workers": 1}
    with pytest.raises(FaultFound, match=r"contradicting palettes.*name the colours in --classes"):
        petseg.convert(str(raw), str(tmp_path / "out"), **options)
    lines = [f"{n},class {n},{r} {g} {b}" for n, (r, g, b) in enumerate(colours)]
    (tmp_path / "c.csv").write_text("\n".join(lines))
    named = petseg.convert(
        str(raw), str(tmp_path / "named"), classes=str(tmp_path / "c.csv"), **options
    )
    read = {}
    for split in named.splits.values():
        for path in manifest.shard_paths(str(tmp_path / "named"), split):
            for content in tf.data.TFRecordDataset(path).as_numpy_iterator():
                features = tf.train.Example.FromString(content).features.feature
                mask = features["image/segmentation/class/encoded"].bytes_list.value[0]
                name = features["image/source_id"].bytes_list.value[0].decode()
                read[name] = tf.io.decode_png(mask).numpy()[..., 0]
    for number, truth in enumerate(truths):
        np.testing.assert_array_equal(read[f"m{number:02}"], truth)
