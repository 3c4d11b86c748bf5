"""The file of run lengths: its rows are the masks that predict writes as PNG."""

import csv
import dataclasses
import threading

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from petseg.errors import UserError
from petseg.inference import output_kinds, outputs, picture_pipeline, run_length_file
from petseg.inference.jobs import plan_jobs
from petseg.inference.output_kinds import CLASS_IDS, RLE, RLE_COLUMNS
from petseg.inference.outputs import OutputOptions
from petseg.inference.postprocessing import PostprocessingOptions
from petseg.inference.predict_files import predict_files
from petseg.inference.predictor import Predictor, PredictorOptions
from petseg.inference.small_regions import remove_small
from petseg.visualization import pictures

NAMES = ("Background", "pet", "border")
SIZE = 32


class Brightest:
    """Stands for a model whose class is the channel that is the brightest."""

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        return tf.cast(images, tf.float32)


@pytest.fixture(scope="module")
def predictor():
    return Predictor(lambda _: Brightest(), PredictorOptions(SIZE, 3, batch_size=2))


@pytest.fixture
def predict(predictor, tmp_path):
    """A function that predicts a folder; it gives the failures and the rows of the CSV."""

    def predict(folder, kinds=(CLASS_IDS,), columns=RLE_COLUMNS, classes=()):
        output = tmp_path / "out"
        jobs = plan_jobs([str(folder)], str(output), [*kinds, RLE]).jobs
        chosen = run_length_file.choose_options(str(output), columns, classes, NAMES)
        options = OutputOptions(kinds, NAMES, pictures.colours(3, {}), chosen)
        failed = predict_files(predictor, jobs, options)
        with open(output / "predictions.csv", encoding="utf-8", newline="") as file:
            return failed, list(csv.reader(file))

    return predict


def draw(path, height, width, seed):
    """Blocks of the three channels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 3, (4, 3))
    pixels = np.eye(3, dtype=np.uint8)[blocks] * 255
    Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST).save(path)


def decode(text, height, width):
    numbers = [int(word) for word in text.split()]
    flat = np.zeros(height * width, bool)
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        flat[start - 1 : start - 1 + length] = True
    return flat.reshape((height, width), order="F")


def mask_of(folder, name):
    with Image.open(folder / f"{name}_mask.png") as mask:
        return np.array(mask)


def test_the_rows_are_the_masks_of_the_png_files(predict, tmp_path):
    sizes = {"b": (40, 30), "a": (17, 61), "sub/ü, 1": (1, 50), "sub/2": (50, 1), "c": (5, 5)}
    for seed, (name, (height, width)) in enumerate(sizes.items()):
        draw(tmp_path / "in" / f"{name}.png", height, width, seed)
    Image.new("RGB", (8, 6), (255, 0, 0)).save(tmp_path / "in" / "empty.png")
    sizes["empty"] = (6, 8)
    failed, (header, *rows) = predict(tmp_path / "in")
    assert failed == 0 and header == ["image", "class", "pixels"]
    order = ["a", "b", "c", "empty", "sub/2", "sub/ü, 1"]
    assert [row[:2] for row in rows] == [[n, c] for n in order for c in ("pet", "border")]
    for name, class_name, text in rows:
        mask = mask_of(tmp_path / "out", name)
        assert mask.shape == sizes[name]
        expected = mask == NAMES.index(class_name)
        np.testing.assert_array_equal(decode(text, *sizes[name]), expected)
    assert rows[6:8] == [["empty", "pet", ""], ["empty", "border", ""]]


def test_every_output_is_of_the_same_postprocessed_mask(predict, predictor, tmp_path, monkeypatch):
    draw(tmp_path / "in" / "a.png", 60, 45, 1)
    predict(tmp_path / "in")
    plain = mask_of(tmp_path / "out", "a")
    (tmp_path / "out").rename(tmp_path / "plain")
    small = dataclasses.replace(
        predictor.options, postprocessing=PostprocessingOptions(min_area_px=400)
    )
    monkeypatch.setattr(predictor, "options", small)
    _, (_, *rows) = predict(tmp_path / "in", kinds=(CLASS_IDS, output_kinds.COLOURS))
    mask = mask_of(tmp_path / "out", "a")
    np.testing.assert_array_equal(mask, remove_small(plain, 400))
    assert (mask != plain).sum() > 50
    for _, name, text in rows:
        np.testing.assert_array_equal(decode(text, 60, 45), mask == NAMES.index(name))
    with Image.open(tmp_path / "out" / "a_colours.png") as drawn:
        np.testing.assert_array_equal(np.array(drawn), pictures.colours(3, {})[mask])


def test_rows_keep_the_order_of_the_pictures_whatever_is_encoded_first(
    predict, tmp_path, monkeypatch
):
    for index in range(5):
        draw(tmp_path / "in" / f"{index}.png", 9, 9, index)
    encoded, write, all_others = [], picture_pipeline._write, threading.Semaphore(0)

    def write_the_first_last(job, *rest):
        if job.name == "0":
            for _ in range(4):
                assert all_others.acquire(timeout=60)
        result = write(job, *rest)
        encoded.append(job.name)
        all_others.release()
        return result

    monkeypatch.setattr(picture_pipeline, "_write", write_the_first_last)
    monkeypatch.setattr(picture_pipeline, "usable_cores", lambda: 4)
    _, (_, *rows) = predict(tmp_path / "in")
    assert encoded[-1] == "0"
    assert [row[0] for row in rows] == [str(i) for i in range(5) for _ in range(2)]


def test_a_picture_that_cannot_be_read_has_no_row(predict, tmp_path, capfd):
    for name in ("a", "c"):
        draw(tmp_path / "in" / f"{name}.png", 9, 9, 0)
    (tmp_path / "in" / "b.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:40])
    failed, (_, *rows) = predict(tmp_path / "in", classes=["pet"])
    assert failed == 1 and [row[0] for row in rows] == ["a", "c"]
    assert "b.png: cannot be read" in capfd.readouterr().err


def test_no_file_is_left_where_nothing_could_be_read(predict, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.png").write_bytes(b"")
    with pytest.raises(FileNotFoundError):
        predict(tmp_path / "in", kinds=())
    assert list((tmp_path / "out").iterdir()) == []


def test_two_columns_have_the_names_of_a_competition(predict, tmp_path):
    draw(tmp_path / "in" / "1.png", 20, 10, 3)
    _, rows = predict(tmp_path / "in", columns=("img", "pixels"), classes=["border"])
    assert rows[0] == ["img", "pixels"] and len(rows) == 2
    np.testing.assert_array_equal(decode(rows[1][1], 20, 10), mask_of(tmp_path / "out", "1") == 2)


def test_the_background_may_be_asked_for_and_the_order_is_the_users(predict, tmp_path):
    draw(tmp_path / "in" / "1.png", 20, 10, 3)
    _, (_, *rows) = predict(tmp_path / "in", classes=["border", "Background"])
    assert [row[1] for row in rows] == ["border", "Background"]
    np.testing.assert_array_equal(decode(rows[1][2], 20, 10), mask_of(tmp_path / "out", "1") == 0)


def test_a_name_that_is_no_utf_8_keeps_its_bytes(predict, tmp_path):
    draw(tmp_path / "in" / "a.png", 4, 4, 0)
    (tmp_path / "in" / "a.png").rename(tmp_path / "in" / "\udcff.png")
    with pytest.raises(UnicodeDecodeError):  # of the test's reader
        predict(tmp_path / "in", kinds=())
    assert b"\n\xff,pet," in (tmp_path / "out" / "predictions.csv").read_bytes()


def test_a_file_in_its_place_is_kept(predict, tmp_path):
    draw(tmp_path / "in" / "a.png", 4, 4, 0)
    predict(tmp_path / "in")
    kept = (tmp_path / "out" / "predictions.csv").read_bytes()
    with pytest.raises(UserError, match=r"predictions\.csv is there already, and does not say who"):
        predict(tmp_path / "in")
    # One that comes while others are predicted.
    options = run_length_file.choose_options(str(tmp_path / "out"), RLE_COLUMNS, (), NAMES)
    with pytest.raises(UserError), run_length_file.writing(options):
        pytest.fail("it was opened")
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == kept


def test_nothing_is_left_of_a_command_that_was_stopped(tmp_path):
    options = run_length_file.choose_options(str(tmp_path), RLE_COLUMNS, (), NAMES)
    with pytest.raises(KeyboardInterrupt), run_length_file.writing(options) as file:
        file.add([("a", "pet", "1 2")])
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_videos_are_refused_before_anything_is_written(predict, tmp_path):
    draw(tmp_path / "in" / "a.png", 4, 4, 0)
    (tmp_path / "in" / "clip.mp4").write_bytes(b"")
    with pytest.raises(UserError, match=r"rle is for pictures, and .*clip\.mp4 is a video"):
        predict(tmp_path / "in")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("columns", "classes", "names", "expected"),
    [
        (RLE_COLUMNS, ["cat"], NAMES, "rle_classes: 'cat' is not one of Background, pet, border"),
        (RLE_COLUMNS, ["pet", "pet"], NAMES, "--rle_classes names 'pet' twice"),
        (("img", "pixels"), [], NAMES, "has no column for the class, and there are 2: pet, border"),
        (RLE_COLUMNS, [], ("background", "_background_"), "every class is called background"),
    ],
)
def test_classes_that_cannot_have_rows_are_one_line(columns, classes, names, expected):
    with pytest.raises(UserError, match=expected):
        run_length_file.choose_options("out", columns, classes, names)


@pytest.mark.parametrize("columns", [[], ["a"], ["a", "a"], ["a", ""], ["a", "b", "c", "d"]])
def test_columns_that_make_no_table_are_one_line(columns):
    with pytest.raises(UserError, match=r"--rle_columns=.* must be the names of three columns"):
        run_length_file.check_columns(columns)


def test_a_kind_is_of_each_picture_or_of_all():
    of_each = {*output_kinds.OF_EACH, output_kinds.PROPOSAL_PICTURES}
    of_all = {RLE, output_kinds.PROPOSALS}
    assert set(outputs._ENDINGS) == of_each == set(output_kinds.KINDS) - of_all
