"""A run whose model has a presence head, from training to export."""

import json

import numpy as np
import pytest
from testing.commands import run_module
from testing.configs import make_tiny_config
from testing.events import summaries

from petseg.evaluation.evaluate_split import EvaluateOptions, evaluate_split
from petseg.evaluation.table import format_table
from petseg.exporting.export_model import ExportOptions, export_model
from petseg.inference.postprocessing import PostprocessingOptions
from petseg.inference.predictor import make_predictor
from petseg.inference.tta import TtaOptions
from petseg.run_dir import evaluations
from petseg.run_dir.trained_model import load_trained_model
from petseg.training import trainer


@pytest.fixture(scope="module")
def nerves(tmp_path_factory):
    """Toy ultrasound of six patients, converted; none is in two splits."""
    raw, data_dir = (tmp_path_factory.mktemp("ultrasound") / name for name in ("raw", "out"))
    drawn = run_module(
        *("-m", "petseg.cli.draw_toy_ultrasound", f"--output_dir={raw}", "--patients=6")
    )
    assert drawn.returncode == 0, drawn.stderr
    flags = ["--validation_fraction=0.4", r"--keep_together=patient\d+", "--stratify=presence"]
    done = run_module(
        *("-m", "petseg.convert", "--source=folders", f"--raw_dir={raw}"),
        *(f"--classes={raw / 'classes.csv'}", f"--output_dir={data_dir}", *flags),
    )
    assert done.returncode == 0, done.stderr
    return data_dir


@pytest.fixture(scope="module")
def run(nerves, tmp_path_factory):
    config = make_tiny_config(nerves)
    config.data.label_map, config.model.presence = "", True
    config.train.loss = "cross_entropy+dice+0.5*presence"
    config.train.epochs, config.optimizer.average_decay = 1.0, 0.9
    folder = str(tmp_path_factory.mktemp("run"))
    trainer.train_and_evaluate(config, folder)
    return folder


def last_figures(run):
    by_step = evaluations.read_evaluations(run)
    return max(by_step), by_step[max(by_step)]


@pytest.mark.slow
def test_it_says_how_well_it_tells_images_with_a_nerve(run, capsys):
    _, figures = last_figures(run)
    assert figures["presence_auc"]["background"] is None  # which every image has
    assert 0 <= figures["presence_auc"]["nerve"] <= 1
    assert figures["presence_threshold"]["background"] == 0
    tags = {tag for tag, _, _ in summaries(f"{run}/validation")}
    assert {"presence/auc/nerve", "loss/presence"} <= tags
    trained = load_trained_model(run)
    kernel = next(v for v in trained.model.variables if v.path == "presence/kernel")
    assert np.abs(kernel.numpy()).max() > 0


@pytest.fixture
def with_threshold(run):
    """Sets the threshold that the run's last evaluation chose; puts it back afterwards."""
    step, figures = last_figures(run)

    def choose(probability):
        changed = {**figures, "presence_threshold": {"background": 0.0, "nerve": probability}}
        evaluations.add_evaluation(run, step, changed)

    yield choose
    evaluations.add_evaluation(run, step, figures)


@pytest.mark.slow
def test_an_absent_class_is_nowhere_unless_it_is_kept(run, with_threshold):
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    found, keeping = {}, PostprocessingOptions(keep_absent=True)
    for threshold in (0.0, 1.0):
        with_threshold(threshold)
        trained = load_trained_model(run)
        assert trained.model.thresholds == (0.0, threshold)
        for options in (PostprocessingOptions(), keeping):
            predictor = make_predictor(trained, TtaOptions(scales=(1.0, 2.0)), 2, options)
            found[threshold, options.keep_absent] = predictor.predict_probabilities(image)
    np.testing.assert_array_equal(found[0.0, False], found[0.0, True])
    np.testing.assert_array_equal(found[1.0, True], found[0.0, True])
    assert (found[1.0, False][..., 1] == 0).all() and (found[0.0, False][..., 1] > 0).any()
    suppressed = evaluate_split(run, EvaluateOptions())
    assert suppressed["recall"]["nerve"] == 0
    assert suppressed["postprocessing"]["keep_absent"] is False
    kept = evaluate_split(run, EvaluateOptions(postprocessing=keeping))
    assert kept["recall"]["nerve"] == pytest.approx(
        last_figures(run)[1]["recall"]["nerve"], abs=0.02
    )
    assert kept["postprocessing"]["keep_absent"] is True


@pytest.mark.slow
def test_an_evaluation_judges_the_head_as_training_did(run):
    _, during = last_figures(run)
    figures = evaluate_split(run, EvaluateOptions())
    for key in ("auc", "precision", "recall", "threshold", "prevalence"):
        assert figures[f"presence_{key}"] == pytest.approx(during[f"presence_{key}"], abs=1e-6)
    flipped = evaluate_split(run, EvaluateOptions(tta=TtaOptions(flip=True)))
    assert flipped["presence_auc"] == figures["presence_auc"]
    with open(figures["report"]) as file:
        page = file.read()
    assert page.count("<svg") == 4 and f"{figures['presence_auc']['nerve']:.4f}" in page
    assert "threshold" in format_table(figures)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["saved_model", "litert", "onnx"])
def test_the_exported_model_suppresses_too(run, with_threshold, tmp_path, name):
    with_threshold(0.51)
    card = export_model(run, ExportOptions(str(tmp_path / "out"), name))
    assert card["presence_thresholds"] == {"background": 0.0, "nerve": 0.51}
    assert json.loads((tmp_path / "out" / "model_card.json").read_text()) == card
