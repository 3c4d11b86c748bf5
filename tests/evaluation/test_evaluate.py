"""Scores of a split against plain NumPy and scikit-learn, image by image."""

import collections
import dataclasses
import io
import json
import re
import shutil

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
from petseg.inference.forward import Views
from PIL import Image
from testing.conversion import convert

from petseg.data import manifest
from petseg.data.label_map import IGNORE
from petseg.errors import UserError
from petseg.evaluation import scoring
from petseg.input_pipeline import pipeline
from petseg.run_dir import evaluations, trained_model
from petseg.training import loop

SIZE = 32
PLAIN = Views()


@pytest.fixture(scope="module")
def run(run_dir, tmp_path_factory):
    """A copy, so that other tests' evaluations are not in the way."""
    return shutil.copytree(run_dir, tmp_path_factory.mktemp("evaluate") / "run")


@pytest.fixture(scope="module")
def found(run):
    return scoring.score_split(str(run), "validation", None, 3, "newest", PLAIN)


def examples(data_dir):
    split = manifest.read_manifest(str(data_dir)).splits["validation"]
    return list(pipeline.read_originals(manifest.shard_paths(str(data_dir), split)))


@pytest.fixture(scope="module")
def predictions(run, data_dir):
    """(truth, softmax of the logits) of each image, at its own size: by other means."""
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


def test_every_pixel_is_counted_once_at_both_sizes(found, predictions):
    own = [(one.mask - 1, shares.argmax(-1)) for one, shares, _ in predictions]
    assert found["own_size"]["confusion"] == confusion(own, 3).tolist()
    assert found["own_size"]["pixels"] == sum(one.mask.size for one, *_ in predictions)
    assert found["pixels"] == len(predictions) * SIZE * SIZE
    rows = [(2 * np.arange(SIZE) + 1) * one.mask.shape[0] // (2 * SIZE) for one, *_ in predictions]
    columns = [
        (2 * np.arange(SIZE) + 1) * one.mask.shape[1] // (2 * SIZE) for one, *_ in predictions
    ]
    small = [
        (one.mask[r][:, c] - 1, shares.argmax(-1))
        for (one, _, shares), r, c in zip(predictions, rows, columns, strict=True)
    ]
    counts = confusion(small, 3)
    assert found["confusion"] == counts.tolist()
    names = ["pet", "background", "border"]
    assert found["iou"] == pytest.approx(dict(zip(names, ious(counts), strict=True)), nan_ok=True)
    assert found["mean_iou"] == pytest.approx(ious(counts).mean())
    per_image = [np.nanmean(ious(confusion([pair], 3))) for pair in small]
    assert found["image_mean_iou"] == pytest.approx(np.mean(per_image))
    ranked = sorted(
        zip(per_image, (one.name for one, *_ in predictions), strict=True), key=lambda row: row[0]
    )
    assert [row["name"] for row in found["worst"]] == [name for _, name in ranked[:3]]
    assert [row["name"] for row in found["best"]] == [name for _, name in ranked[::-1][:3]]


def test_the_same_predictions_are_read_by_the_other_label_maps(found, predictions):
    tables = {
        "three_class": ([0, 1, 2], [[0], [1], [2]]),
        "border_ignored": ([0, 1, IGNORE], [[0], [1]]),
        "border_is_pet": ([0, 1, 0], [[0, 2], [1]]),
    }
    assert set(found["label_maps"]) == set(tables)
    for name, (truth_table, merged) in tables.items():
        pairs = []
        for one, shares, _ in predictions:
            sums = np.stack([shares[..., of].sum(-1) for of in merged], -1)
            pairs.append((np.array(truth_table)[one.mask - 1], sums.argmax(-1)))
        counts = found["label_maps"][name]["own_size"]["confusion"]
        per_image = [ious(confusion([pair], len(merged)))[0] for pair in pairs]
        first = next(iter(found["label_maps"][name]["own_size"]["image_iou"].values()))
        assert first == pytest.approx(np.nanmean(per_image), abs=1e-3)
        # Sums of float32 may tie the other way.
        assert np.abs(np.array(counts) - confusion(pairs, len(merged))).sum() <= 2


def test_groups_add_up_to_the_split(found, data_dir):
    originals = examples(data_dir)
    assert set(found["groups"]) == {"species", "breed"}
    for kind, of in (
        ("breed", lambda one: one.image_class),
        ("species", lambda one: "cat" if one.filename[0].isupper() else "dog"),
    ):
        counts = collections.Counter(map(of, originals))
        assert {name: row["images"] for name, row in found["groups"][kind].items()} == counts


def test_bands_narrow_and_are_harder(found):
    bands = found["own_size"]["band_mean_iou"]
    assert list(bands) == ["2", "4", "8", "16"]
    assert all(0 <= iou <= 1 for iou in bands.values())
    assert set(found["boundary_iou"]) == {"pet", "background", "border"}


def test_the_page_needs_no_other_file(found):
    with open(found["report"]) as file:
        page = file.read()
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "url(" not in page.replace("url(#", "")
    assert page.count("data:image/jpeg;base64,") == 2 and page.count("<svg") == 3
    assert f"{found['mean_iou']:.4f}" in page
    for row in (*found["groups"]["breed"], "The worst images", "border_is_pet"):
        assert row in page
    with Image.open(found["panel"]) as panel:
        assert panel.width > 4 * 192
    with open(found["panel"].replace("_panel.png", ".json")) as file:
        assert json.load(file) == found


def test_figures_are_those_of_the_evaluation_while_it_was_trained(run, found):
    by_step = json.loads((run / "evaluation" / "validation_by_step.json").read_text())
    assert found["mean_iou"] == pytest.approx(by_step["5"]["mean_iou"], abs=1e-6)


@pytest.mark.parametrize(
    "views",
    [Views(flip=True, scales=(1.0, 2.0)), Views(sliding_windows=True)],
    ids=["averaged", "windows"],
)
def test_other_views_count_the_same_pixels(run, found, views):
    other = scoring.score_split(str(run), "validation", None, 1, "newest", views)
    for size in (other, other["own_size"]):
        whole = found if size is other else found["own_size"]
        assert np.sum(size["confusion"], 1).tolist() == np.sum(whole["confusion"], 1).tolist()
    assert other["confusion"] != found["confusion"]


def test_a_letterboxed_model_counts_no_filling(tiny_config, tmp_path):
    tiny_config.data.keep_aspect = True
    tiny_config.train.epochs = 1.0
    loop.train_and_evaluate(tiny_config, str(tmp_path))
    found = scoring.score_split(str(tmp_path), "validation", None, 1, "newest", PLAIN)
    originals = examples(tiny_config.data.dir)
    assert found["own_size"]["pixels"] == sum(one.mask.size for one in originals)
    expected = 0
    for one in originals:
        longer = max(one.mask.shape)
        expected += np.prod([max(round(SIZE * side / longer), 1) for side in one.mask.shape])
    assert found["pixels"] == pytest.approx(expected, abs=SIZE * len(originals))
    by_step = evaluations.read_evaluations(str(tmp_path))
    assert found["mean_iou"] == pytest.approx(by_step[5]["mean_iou"], abs=1e-6)


def test_a_data_set_of_other_classes_is_refused(run, raw_pets, tmp_path):
    convert(raw_pets, tmp_path / "other")
    known = manifest.read_manifest(str(tmp_path / "other"))
    renamed = dataclasses.replace(known, raw_labels={1: "road", 2: "sky", 3: "car"})
    manifest.write_manifest(str(tmp_path / "other"), renamed)
    with pytest.raises(UserError, match="mask value 1 is 'road' there, but 'pet' in the data set"):
        scoring.score_split(str(run), "validation", str(tmp_path / "other"), 1, "newest", PLAIN)


def test_a_split_without_a_counted_pixel_has_no_figures(run, raw_pets, tmp_path):
    raw = shutil.copytree(raw_pets, tmp_path / "raw")
    for path in (raw / "annotations" / "trimaps").glob("*.png"):
        with Image.open(path) as mask:
            blank = Image.fromarray(np.full(np.array(mask).shape, 2, np.uint8))
        content = io.BytesIO()
        blank.save(content, "PNG")
        path.write_bytes(content.getvalue())
    convert(raw, tmp_path / "blank")
    found = scoring.score_split(str(run), "validation", str(tmp_path / "blank"), 1, "newest", PLAIN)
    table = scoring.table(found)
    assert (found["recall"]["pet"] is None and "none" in table) or found["iou"]["pet"] == 0
    assert found["band_mean_iou"]["2"] is None  # one class alone has no border
