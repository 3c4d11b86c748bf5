"""What an evaluation says of the presence head; runs: tests/training/test_presence.py."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from testing.configs import make_tiny_config

from petseg.api import load_run
from petseg.data.label_map import parse_label_map
from petseg.errors import UserError
from petseg.evaluation import report, table
from petseg.evaluation.counting import MODEL_SIZE, ImageScores
from petseg.evaluation.evaluate_split import EvaluateOptions, evaluate_split
from petseg.evaluation.label_map_views import MODEL_VIEW
from petseg.evaluation.presence import judge_presence
from petseg.inference.postprocessing import PostprocessingOptions
from petseg.input_pipeline.stored_examples import Original
from petseg.metrics.presence import curves, presence_figures
from petseg.run_dir import trained_model
from petseg.run_dir.trained_model import TrainedModel

SIZE = (32, 64)
KEY = MODEL_VIEW, MODEL_SIZE


@pytest.fixture(scope="module")
def trained():
    """A model with random weights, of its head too, that would leave out everything."""
    config = make_tiny_config("none")
    config.data.image_size, config.data.batch_size, config.model.presence = SIZE, 3, True
    label_map = parse_label_map("background=0; nerve=1; vessel=2")
    model = trained_model.build_untrained(config, 3, SIZE)
    model = dataclasses.replace(model, thresholds=(0.0, 0.999, 0.999))
    rng = np.random.default_rng(0)
    for weight in model.presence.weights:
        weight.assign(rng.normal(0, 0.05, weight.shape))
    return TrainedModel(config, label_map, {}, np.zeros((3, 3), np.uint8), model, 7)


def drawn(count, seed):
    """Images of several sizes, and their scores, of which every fifth ignores its pixels."""
    rng = np.random.default_rng(seed)
    originals, scores = [], []
    for index in range(count):
        shape = rng.integers(20, 90, 2)
        shade = rng.integers(0, 256, (1, 1, 3))
        image = (shade * rng.random((*shape, 3))).astype(np.uint8)
        mask = rng.integers(0, 3, shape).astype(np.uint8)
        originals.append(Original(index, f"image {index}", "", "", image, mask))
        truth = rng.integers(1, 9, 3) * [1, *rng.integers(0, 2, 2)] * (index % 5 > 0)
        areas = np.stack([truth // 2, truth, rng.integers(0, 9, 3)], -1)
        scores.append(ImageScores(index, f"image {index}", {KEY: 0.5}, {KEY: areas}))
    return originals, scores


@pytest.mark.parametrize("seed", [0, 1])
def test_the_head_judges_every_image_once_and_in_order(trained, seed):
    originals, scores = drawn(10, seed)
    presence = judge_presence(iter(originals), scores, trained)
    expected = []
    for original in originals:
        resized = tf.image.resize(original.image, SIZE, antialias=True)
        image = tf.saturate_cast(tf.round(resized), tf.uint8)[None]
        (logits,) = trained.model.outputs({"image": image}).presence.numpy()
        expected.append(tf.sigmoid(logits))
    np.testing.assert_allclose(presence.probabilities, expected, rtol=1e-4)
    assert np.ptp(presence.probabilities, axis=0).min() > 1e-4
    np.testing.assert_array_equal(presence.counts.truth, [s.areas[KEY][:, 1] for s in scores])


def test_a_run_without_a_head_says_nothing_of_presence(run_dir):
    figures = evaluate_split(str(run_dir), EvaluateOptions(panel_images=1))
    assert not [key for key in figures if "presence" in key]
    with open(figures["report"]) as file:
        assert "presence head" not in file.read()
    assert "in an image" not in table.format_table(figures)


@pytest.fixture
def evaluated(run_dir, trained):
    """Figures and page of a run, with those of a head over its classes."""
    originals, scores = drawn(10, 2)
    presence = judge_presence(originals, scores, trained)
    names = ("pet", "background", "border")
    counts = dataclasses.replace(presence.counts, class_names=names)
    presence = dataclasses.replace(presence, counts=counts)
    figures = evaluate_split(str(run_dir), EvaluateOptions(panel_images=1))
    figures |= presence_figures(presence, np.array([0.0, 0.25, 0.625]))
    picture = np.zeros((8, 8, 3), np.uint8)
    content = report.ReportContent(
        figures, "RUN", "DATA", "", {}, [0.5], picture, picture, curves(presence)
    )
    return figures, report.html_page(content)


def test_table_and_page_give_every_figure_of_every_class(evaluated):
    figures, page = evaluated
    rows = table.format_table(figures).splitlines()
    start = next(n for n, row in enumerate(rows) if row.startswith("in an image"))
    heads = rows[start].removeprefix("in an image").split()
    assert heads == ["AUC", "precision", "recall", "threshold", "prevalence"]
    for row, name in zip(rows[start + 1 :], figures["iou"], strict=False):
        values = [figures[f"presence_{key.lower()}"][name] for key in heads]
        shown = ["-" if value is None else f"{value:.4f}" for value in values]
        assert row.split() == [name, *shown]
        cells = "".join(f"<td>{cell}</td>" for cell in [name, *shown])
        assert f"<tr>{cells}</tr>" in page
    assert figures["presence_auc"]["pet"] is None  # which every image has
    assert page.count("<svg") == 3  # confusion, histogram, curves


def test_keeping_absent_classes_of_a_model_without_a_head_is_refused(run_dir, data_dir):
    keeping = PostprocessingOptions(keep_absent=True)
    before = sorted((run_dir / "evaluation").iterdir())
    with pytest.raises(UserError, match=r"^keep_absent is for models with a presence head \("):
        evaluate_split(str(run_dir), EvaluateOptions(postprocessing=keeping))
    assert sorted((run_dir / "evaluation").iterdir()) == before
    with pytest.raises(UserError, match="keep_absent"):
        load_run(str(run_dir)).predict(np.zeros((32, 32, 3), np.uint8), postprocessing=keeping)
