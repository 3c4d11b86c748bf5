import json
import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petseg.errors import UserError
from petseg.run_dir import evaluations

FIGURES = {"mean_iou": 0.5, "iou": {"pet": 0.25, "border": None}, "pixel_accuracy": None}


def add(run, step, figures=FIGURES):
    evaluations.add_evaluation(str(run), step, figures)
    evaluations.add_seconds(str(run), step, 2.0 * step)


def test_what_was_added_is_read_back_and_later_steps_go(tmp_path):
    for step in (0, 5, 10, 7):
        add(tmp_path, step)
    assert evaluations.read_evaluations(str(tmp_path)) == dict.fromkeys((0, 5, 7), FIGURES)
    assert evaluations.read_seconds(str(tmp_path)) == {0: 0.0, 5: 10.0, 7: 14.0}
    assert evaluations.read_seconds(str(tmp_path / "absent")) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"5": {"mean_iou": 0.5', "EOF while parsing"),
        ("", "EOF while parsing"),
        ("[" * 100_000, "recursion limit exceeded"),
        ("[1]", "it should be an object"),
        ('{"five": {"mean_iou": 0.5}}', "five"),
        ('{"-5": {"mean_iou": 0.5}}', "greater than or equal to 0"),
        ('{"5": {"mean_iou": NaN}}', "5.mean_iou"),
        ('{"5": {"mean_iou": "0.5"}}', "5.mean_iou"),
        ('{"5": {"mean_iou": {"pet": 1}}}', "5 has no mean_iou"),
        ('{"5": {}}', "5 has no mean_iou"),
        ('{"5": {"mean_iou": 0.5, "iou": [1]}}', "5.iou"),
    ],
)
def test_damaged_figures_are_one_line(tmp_path, text, said):
    add(tmp_path, 5)
    path = tmp_path / "evaluation" / "validation_by_step.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is damaged: ") as caught:
        evaluations.read_evaluations(str(tmp_path))
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).isprintable()


def test_nothing_is_added_to_what_cannot_be_read(tmp_path):
    add(tmp_path, 5)
    path = tmp_path / "evaluation" / "validation_by_step.json"
    path.write_text('{"5": {"mean_iou": 0.5')
    with pytest.raises(UserError, match="is damaged: Invalid JSON: EOF"):
        evaluations.add_evaluation(str(tmp_path), 7, FIGURES)
    assert path.read_text() == '{"5": {"mean_iou": 0.5'


@settings(max_examples=100, deadline=None)
@given(cut=st.integers(0, 200), byte=st.binary(max_size=2))
def test_a_file_cut_or_changed_anywhere_is_one_line_or_read_as_it_stands(
    tmp_path_factory, cut, byte
):
    run = FOLDER.setdefault("run", tmp_path_factory.mktemp("run"))
    add(run, 5)
    path = run / "evaluation" / "validation_by_step.json"
    whole = path.read_bytes()
    content = whole[:cut] + byte + whole[cut + 1 :] * bool(byte)
    path.write_bytes(content)
    try:
        found = evaluations.read_evaluations(str(run))
    except UserError as error:
        assert str(error).isprintable()
    else:
        assert found == {int(step): figures for step, figures in json.loads(content).items()}
    path.write_bytes(whole)


FOLDER: dict = {}


def test_reports_of_a_checkpoint_are_found_and_damaged_ones_named(tmp_path):
    add(tmp_path, 5)
    folder = tmp_path / "evaluation"
    report = {"checkpoint_step": 5, "split": "test", "mean_iou": None, "worst": [{"name": "x"}]}
    (folder / "test.json").write_text(json.dumps(report))
    assert evaluations.evaluations_of(str(tmp_path), 5) == {"test": report}
    assert evaluations.evaluations_of(str(tmp_path), 6) == {}
    assert evaluations.evaluations_of(str(tmp_path / "absent"), 5) == {}
    for wrong in ({**report, "checkpoint_step": "5"}, {**report, "mean_iou": math.nan}, [1], None):
        (folder / "test.json").write_text(json.dumps(wrong))
        with pytest.raises(UserError, match=r"test\.json is damaged: "):
            evaluations.evaluations_of(str(tmp_path), 5)


def test_a_fifo_among_the_reports_is_not_waited_for(tmp_path):
    add(tmp_path, 5)
    os.mkfifo(tmp_path / "evaluation" / "test.json")
    with pytest.raises(UserError, match="it is a FIFO, not a regular file"):
        evaluations.evaluations_of(str(tmp_path), 5)
