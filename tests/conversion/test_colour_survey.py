"""Masks of colours that nobody named: they are listed, and the class file written works."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from testing.conversion import encoded
from testing.picture_files import draw_pairs

from petseg.conversion import colour_survey
from petseg.conversion.class_file import read_mask_rules
from petseg.conversion.convert import ConvertOptions, convert
from petseg.errors import UserError

BLACK, RED, BLUE = (0, 0, 0), (255, 0, 0), (0, 0, 255)


def picture(counts: dict[tuple[int, int, int], int]) -> Image.Image:
    rows = [[colour] * 16 for colour, count in counts.items() for _ in range(count)]
    return Image.fromarray(np.array(rows, np.uint8))


@pytest.fixture
def coloured(tmp_path):
    """Options to convert ten pairs whose masks are red, black and blue; one is all black."""
    raw = draw_pairs(tmp_path / "raw", {f"m{n}": np.zeros((16, 16), np.uint8) for n in range(10)})
    for number in range(10):
        counts = {BLACK: 16} if number == 4 else {RED: 10, BLACK: 5, BLUE: 1}
        picture(counts).save(raw / "masks" / f"m{number}.png")
    return ConvertOptions(str(tmp_path / "out"), "folders", str(raw), workers=1)


def test_colours_are_counted_over_all_masks():
    contents = [encoded(picture(c), "PNG") for c in ({RED: 3, BLUE: 1}, {BLUE: 7, BLACK: 1})]
    survey = colour_survey.survey_colours([b"no picture", *contents])
    assert survey == colour_survey.ColourSurvey({BLUE: 128, RED: 48, BLACK: 16}, 2, True)
    assert survey.shares() == {BLUE: 128 / 192, RED: 48 / 192, BLACK: 16 / 192}


def test_a_photograph_is_not_counted():
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    survey = colour_survey.survey_colours([encoded(Image.fromarray(noise), "PNG")])
    assert survey == colour_survey.ColourSurvey({}, 0, False)


def test_the_failing_conversion_writes_a_class_file_that_works(coloured, tmp_path):
    told = (
        r"the 3 colours of 10 masks are #ff0000 56\.2%, #000000 38\.1%, #0000ff 5\.6%\. "
        rf"{tmp_path}/out\.classes\.csv lists them: .*--classes={tmp_path}/out\.classes\.csv$"
    )
    for _ in range(2):
        with pytest.raises(UserError, match=told):
            convert(coloured, show_progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.classes.csv", "raw"]
    assert (tmp_path / "out.classes.csv").read_text().splitlines()[2:] == [
        "id,name,colour",
        *("# 38.125%", "0,background,#000000"),
        *("# 56.250%", "1,class_1,#ff0000"),
        *("# 5.625%", "2,class_2,#0000ff"),
    ]
    rules = read_mask_rules(str(tmp_path / "out.classes.csv"), None)
    assert rules.values_of_colours == {BLACK: 0, RED: 1, BLUE: 2}
    finished = convert(
        dataclasses.replace(coloured, classes=str(tmp_path / "out.classes.csv")),
        show_progress=False,
    )
    assert finished.rejected == ()
    assert finished.raw_labels == {0: "background", 1: "class_1", 2: "class_2"}


def test_a_users_file_is_not_replaced(coloured, tmp_path):
    (tmp_path / "out.classes.csv").write_text("0,mine,#000000\n")
    with pytest.raises(UserError, match=r"--classes=.*/out\.classes-2\.csv$"):
        convert(coloured, show_progress=False)
    assert (tmp_path / "out.classes.csv").read_text() == "0,mine,#000000\n"


def test_smoothed_colours_make_no_class_file(coloured, tmp_path):
    wide = np.arange(16 * 16 * 3).reshape(16, 16, 3).astype(np.uint8)
    for number in range(10):
        Image.fromarray(np.roll(wide, number, -1)).save(tmp_path / f"raw/masks/m{number}.png")
    with pytest.raises(UserError, match=r"hold more than 255 colours.*most frequent: #[0-9a-f]{6}"):
        convert(coloured, show_progress=False)
    assert not (tmp_path / "out.classes.csv").exists()


def test_a_few_coloured_masks_among_others_are_rejected_as_before(coloured, tmp_path):
    for number in range(9):
        Image.fromarray(np.eye(16, dtype=np.uint8)).save(tmp_path / f"raw/masks/m{number}.png")
    finished = convert(coloured, show_progress=False)
    assert [finding.name for finding in finished.rejected] == ["m9"]
    assert "give its colours in --classes" in finished.rejected[0].reason
