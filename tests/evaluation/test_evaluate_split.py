"""Evaluation of a split against plain NumPy and scikit-learn, image by image."""

import collections
import dataclasses
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
from PIL import Image
from testing.autograph import autograph_forbidden
from testing.conversion import convert

from petseg.data import manifest
from petseg.data.label_map import IGNORE
from petseg.errors import UserError
from petseg.evaluation.evaluate_split import EvaluateOptions, evaluate_split
from petseg.evaluation.table import format_table
from petseg.inference.postprocessing import PostprocessingOptions
from petseg.inference.small_regions import remove_small
from petseg.inference.smoothing import smooth
from petseg.inference.tta import TtaOptions
from petseg.input_pipeline import stored_examples
from petseg.metrics.base import Metric
from petseg.registry import METRICS
from petseg.run_dir import evaluations, trained_model
from petseg.training import trainer

SIZE = 32


@pytest.fixture(scope="module")
def run(run_dir, tmp_path_factory):
    """A copy, so that the evaluations of other tests do not interfere."""
    return shutil.copytree(run_dir, tmp_path_factory.mktemp("evaluate") / "run")


@pytest.fixture(scope="module")
def figures(run):
    with autograph_forbidden():
        return evaluate_split(str(run), EvaluateOptions(panel_images=3))


def examples(data_dir):
    split = manifest.read_manifest(str(data_dir)).splits["validation"]
    return list(stored_examples.read_originals(manifest.shard_paths(str(data_dir), split)))


@pytest.fixture(scope="module")
def predictions(run, data_dir):
    """Each example with its probabilities, at full size and at the model's size."""
    model = trained_model.load_trained_model(str(run)).model
    results = []
    for one in examples(data_dir):
        with tf.device("CPU"):
            image = tf.image.resize(one.image, [SIZE, SIZE], antialias=True)
            logits = model(tf.saturate_cast(tf.round(image), tf.uint8)[None])
            large = tf.image.resize(logits, one.mask.shape)[0]
        results.append((one, tf.nn.softmax(large).numpy(), tf.nn.softmax(logits[0]).numpy()))
    return results


def confusion(pairs, classes):
    total = np.zeros((classes, classes), int)
    for truth, predicted in pairs:
        valid = truth != IGNORE
        if valid.any():
            total += sklearn.metrics.confusion_matrix(
                truth[valid], predicted[valid], labels=range(classes)
            )
    return total


def ious(counts):
    return np.diag(counts) / (counts.sum(0) + counts.sum(1) - np.diag(counts))


def test_every_pixel_is_counted_once_at_both_sizes(figures, predictions):
    full = [(one.mask - 1, probabilities.argmax(-1)) for one, probabilities, _ in predictions]
    assert figures["own_size"]["confusion"] == confusion(full, 3).tolist()
    assert figures["own_size"]["pixels"] == sum(one.mask.size for one, *_ in predictions)
    assert figures["pixels"] == len(predictions) * SIZE * SIZE
    rows = [(2 * np.arange(SIZE) + 1) * one.mask.shape[0] // (2 * SIZE) for one, *_ in predictions]
    columns = [
        (2 * np.arange(SIZE) + 1) * one.mask.shape[1] // (2 * SIZE) for one, *_ in predictions
    ]
    small = [
        (one.mask[r][:, c] - 1, probabilities.argmax(-1))
        for (one, _, probabilities), r, c in zip(predictions, rows, columns, strict=True)
    ]
    counts = confusion(small, 3)
    assert figures["confusion"] == counts.tolist()
    names = ["pet", "background", "border"]
    assert figures["iou"] == pytest.approx(dict(zip(names, ious(counts), strict=True)), nan_ok=True)
    assert figures["mean_iou"] == pytest.approx(ious(counts).mean())
    per_image = [np.nanmean(ious(confusion([pair], 3))) for pair in small]
    assert figures["image_mean_iou"] == pytest.approx(np.mean(per_image))
    ranked = sorted(
        zip(per_image, (one.name for one, *_ in predictions), strict=True), key=lambda row: row[0]
    )
    assert [row["name"] for row in figures["worst"]] == [name for _, name in ranked[:3]]
    assert [row["name"] for row in figures["best"]] == [name for _, name in ranked[::-1][:3]]


def test_the_same_predictions_are_evaluated_by_other_label_maps(figures, predictions):
    tables = {
        "three_class": ([0, 1, 2], [[0], [1], [2]]),
        "border_ignored": ([0, 1, IGNORE], [[0], [1]]),
        "border_is_pet": ([0, 1, 0], [[0, 2], [1]]),
    }
    assert set(figures["label_maps"]) == set(tables)
    for name, (truth_table, merged) in tables.items():
        pairs = []
        for one, probabilities, _ in predictions:
            sums = np.stack([probabilities[..., parts].sum(-1) for parts in merged], -1)
            pairs.append((np.array(truth_table)[one.mask - 1], sums.argmax(-1)))
        counts = figures["label_maps"][name]["own_size"]["confusion"]
        per_image = [ious(confusion([pair], len(merged)))[0] for pair in pairs]
        first = next(iter(figures["label_maps"][name]["own_size"]["image_iou"].values()))
        assert first == pytest.approx(np.nanmean(per_image), abs=1e-3)
        # Sums of float32 may tie the other way.
        assert np.abs(np.array(counts) - confusion(pairs, len(merged))).sum() <= 2


def test_groups_add_up_to_the_split(figures, data_dir):
    originals = examples(data_dir)
    assert set(figures["groups"]) == {"species", "breed"}
    for kind, group_of in (
        ("breed", lambda one: one.image_class),
        ("species", lambda one: "cat" if one.filename[0].isupper() else "dog"),
    ):
        counts = collections.Counter(map(group_of, originals))
        assert {name: row["images"] for name, row in figures["groups"][kind].items()} == counts


def test_bands_have_figures_at_every_radius(figures):
    bands = figures["own_size"]["band_mean_iou"]
    assert list(bands) == ["2", "4", "8", "16"]
    assert all(0 <= iou <= 1 for iou in bands.values())
    assert set(figures["boundary_iou"]) == {"pet", "background", "border"}


def test_where_truth_has_every_class_nothing_is_said_of_lacking_ones(figures):
    assert figures["own_size"]["not_in_truth"] == []
    assert "no figure judges" not in format_table(figures)


def test_the_page_needs_no_other_file(figures):
    with open(figures["report"]) as file:
        page = file.read()
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "url(" not in page.replace("url(#", "")
    assert page.count("data:image/jpeg;base64,") == 2 and page.count("<svg") == 3
    assert f"{figures['mean_iou']:.4f}" in page
    for row in (*next(reversed(figures["groups"].values())), "The worst images", "border_is_pet"):
        assert row in page
    with Image.open(figures["panel"]) as panel:
        assert panel.width > 4 * 192
    with open(figures["panel"].replace("_panel.png", ".json")) as file:
        assert json.load(file) == figures


def test_figures_equal_those_of_the_evaluation_during_training(run, figures):
    by_step = json.loads((run / "evaluation" / "validation_by_step.json").read_text())
    for name in ("mean_iou", "image_mean_iou", "image_dice"):
        assert figures[name] == pytest.approx(by_step["5"][name], abs=1e-6)


@pytest.mark.parametrize(
    "tta",
    [TtaOptions(flip=True, scales=(1.0, 2.0)), TtaOptions(sliding_windows=True)],
    ids=["averaged", "windows"],
)
def test_tta_counts_the_same_pixels(run, figures, tta):
    other = evaluate_split(str(run), EvaluateOptions(tta=tta, panel_images=1))
    for size in (other, other["own_size"]):
        whole = figures if size is other else figures["own_size"]
        assert np.sum(size["confusion"], 1).tolist() == np.sum(whole["confusion"], 1).tolist()
    assert other["confusion"] != figures["confusion"]


def test_postprocessing_is_of_full_size_and_of_every_label_map(run, figures, predictions):
    done = PostprocessingOptions(smooth_sigma_px=3.0, min_area_px=400)
    other = evaluate_split(str(run), EvaluateOptions(postprocessing=done, panel_images=1))
    assert other["postprocessing"] == {
        "smooth_sigma_px": 3.0,
        "min_area_px": 400,
        "keep_absent": False,
    }
    assert {k: v for k, v in other.items() if k in ("confusion", "image_dice", "groups")} == {
        k: v for k, v in figures.items() if k in ("confusion", "image_dice", "groups")
    }
    said = "full size: predictions with smooth_sigma_px=3, min_area_px=400"
    assert said in format_table(other) and said in Path(other["report"]).read_text()
    assert "full size: predictions" not in format_table(figures)
    smoothed = [(one.mask - 1, smooth(large, 3.0)) for one, large, _ in predictions]

    def counts(merged, truth_table):
        pairs = [
            (
                np.array(truth_table)[truth],
                remove_small(merged(large).argmax(-1).astype(np.uint8), 400),
            )
            for truth, large in smoothed
        ]
        return confusion(pairs, max(c for c in truth_table if c != IGNORE) + 1)

    expected = counts(lambda large: large, (0, 1, 2))
    found = np.array(other["own_size"]["confusion"])
    assert np.abs(found - expected).sum() <= 4  # float32 may round the other way
    assert np.abs(found - figures["own_size"]["confusion"]).sum() > 100
    expected = counts(lambda p: np.stack([p[..., 0] + p[..., 2], p[..., 1]], -1), (0, 1, 0))
    found = np.array(other["label_maps"]["border_is_pet"]["own_size"]["confusion"])
    assert np.abs(found - expected).sum() <= 4


def test_image_dice_is_that_of_both_foreground_classes(figures, predictions):
    values = []
    for one, large, _ in predictions:
        for class_id in (0, 2):
            truth, predicted = one.mask - 1 == class_id, large.argmax(-1) == class_id
            size = truth.sum() + predicted.sum()
            values.append(2 * (truth & predicted).sum() / size if size else 1.0)
    assert figures["own_size"]["image_dice"] == pytest.approx(np.mean(values))
    assert "mean Dice of an image" in format_table(figures)


@pytest.mark.slow
def test_a_letterboxed_model_counts_no_padding(tiny_config, tmp_path):
    tiny_config.data.keep_aspect = True
    tiny_config.train.epochs = 1.0
    trainer.train_and_evaluate(tiny_config, str(tmp_path))
    figures = evaluate_split(str(tmp_path), EvaluateOptions(panel_images=1))
    originals = examples(tiny_config.data.dir)
    assert figures["own_size"]["pixels"] == sum(one.mask.size for one in originals)
    expected = 0
    for one in originals:
        longer = max(one.mask.shape)
        expected += np.prod([max(round(SIZE * side / longer), 1) for side in one.mask.shape])
    assert figures["pixels"] == pytest.approx(expected, abs=SIZE * len(originals))
    by_step = evaluations.read_evaluations(str(tmp_path))
    assert figures["mean_iou"] == pytest.approx(by_step[5]["mean_iou"], abs=1e-6)


def test_a_data_set_of_other_classes_is_refused(run, raw_pets, tmp_path):
    convert(raw_pets, tmp_path / "other")
    known = manifest.read_manifest(str(tmp_path / "other"))
    renamed = dataclasses.replace(known, raw_labels={1: "road", 2: "sky", 3: "car"})
    manifest.write_manifest(str(tmp_path / "other"), renamed)
    with pytest.raises(UserError, match="mask value 1 is 'road' there, but 'pet' in the data set"):
        evaluate_split(str(run), EvaluateOptions(data_dir=str(tmp_path / "other")))


def test_a_split_of_one_class_has_no_figures_for_the_others(run, raw_pets, tmp_path):
    raw = shutil.copytree(raw_pets, tmp_path / "raw")
    for path in (raw / "annotations" / "trimaps").glob("*.png"):
        with Image.open(path) as mask:
            blank = Image.fromarray(np.full(np.array(mask).shape, 2, np.uint8))
        content = io.BytesIO()
        blank.save(content, "PNG")
        path.write_bytes(content.getvalue())
    convert(raw, tmp_path / "blank")
    blank = EvaluateOptions(data_dir=str(tmp_path / "blank"), panel_images=1)
    figures = evaluate_split(str(run), blank)
    table = format_table(figures)
    assert figures["iou"]["pet"] in (None, 0.0) and figures["recall"]["pet"] is None
    assert figures["not_in_truth"] == figures["own_size"]["not_in_truth"] == ["pet", "border"]
    lacking = "no figure judges them: pet, border"
    assert lacking in table and lacking in Path(figures["report"]).read_text()
    assert ("absent" in table) == (None in figures["iou"].values())
    assert figures["band_mean_iou"]["2"] is None  # one class alone has no border


def test_metrics_from_outside_are_in_every_output(run, monkeypatch):
    monkeypatch.setattr(METRICS, "_items", dict(METRICS._items))
    METRICS.register("true_share", Metric(lambda c: c.sum(1) / c.sum(), per_class=True))
    METRICS.register("error_rate", Metric(lambda c: 1 - np.diag(c).sum() / c.sum()))
    more = evaluate_split(str(run), EvaluateOptions(panel_images=1))
    with open(more["report"]) as file:
        page = file.read()
    for title in ("true share", "error rate"):
        assert title in format_table(more) and title in page
    for by_size in (more, more["label_maps"]["border_is_pet"]["own_size"]):
        assert by_size["error_rate"] == pytest.approx(1 - by_size["pixel_accuracy"])
        assert sum(by_size["true_share"].values()) == pytest.approx(1)
    with open(more["panel"].replace("_panel.png", ".json")) as file:
        assert json.load(file) == more
