"""What is measured of a confusion matrix, and metrics from outside."""

import json

import numpy as np
import pytest
from testing import commands

from petseg.errors import UserError
from petseg.metrics import measure as measure_lib
from petseg.metrics.base import ImageMetric, Metric
from petseg.metrics.measure import measure, named_values, tensorboard_values
from petseg.registry import METRICS

CONFUSION = np.array([[5, 0, 0], [1, 4, 0], [0, 0, 0]])
NAMES = ("a", "b", "c")
# Of two images: pixels of each class that are right, true and predicted.
AREAS = np.array([[[5, 5, 5], [0, 0, 0], [0, 0, 0]], [[0, 0, 1], [4, 5, 4], [0, 0, 0]]])


@pytest.fixture
def registry(monkeypatch):
    """The registry of metrics; what a test registers is forgotten afterwards."""
    monkeypatch.setattr(METRICS, "_items", dict(METRICS._items))
    return METRICS


def test_absent_classes_have_no_value_and_are_left_out_of_means():
    measured = measure(CONFUSION, AREAS, NAMES)
    assert list(measured) == list(METRICS)
    assert measured["iou"] == {"a": 5 / 6, "b": 4 / 5, "c": None}
    assert measured["mean_iou"] == pytest.approx((5 / 6 + 4 / 5) / 2)
    assert measured["precision"] == {"a": 5 / 6, "b": 1.0, "c": None}
    assert measured["pixel_accuracy"] == 0.9
    assert measured["image_mean_iou"] == pytest.approx((1 + (0 + 4 / 5) / 2) / 2)
    assert measured["image_dice"] == pytest.approx((3 + 0 + 8 / 9 + 1) / 6)


def test_an_empty_confusion_matrix_has_no_values_at_all():
    measured = measure(np.zeros((3, 3), np.int64), np.zeros((2, 3, 3), np.int64), NAMES)
    assert measured["mean_iou"] is None and measured["pixel_accuracy"] is None
    assert measured["dice"] == dict.fromkeys(NAMES)
    assert named_values(measured) == tensorboard_values(measured) == {}


def test_values_have_the_names_that_a_setting_may_name():
    measured = measure(CONFUSION + 1, AREAS, NAMES)
    named = named_values(measured)
    assert set(named) == set(measure_lib.value_names(NAMES))
    assert named["iou/a"] == measured["iou"]["a"] == 6 / 11
    assert named["mean_iou"] == measured["mean_iou"]
    assert set(named_values(measure(CONFUSION, AREAS, NAMES))) == {
        name for name in named if not name.endswith("/c")
    }


def test_tensorboard_shows_what_has_a_tag():
    measured = measure(CONFUSION, AREAS, NAMES)
    assert tensorboard_values(measured) == {
        "metrics/mean_iou": measured["mean_iou"],
        "metrics/pixel_accuracy": 0.9,
        "metrics/frequency_weighted_iou": measured["frequency_weighted_iou"],
        "metrics/image_dice": measured["image_dice"],
        "iou/a": 5 / 6,
        "iou/b": 4 / 5,
    }


def test_metrics_from_outside_are_measured_and_named(registry):
    def informedness(confusion):
        return confusion[0, 0] / confusion[0].sum() + confusion[1, 1] / confusion[1].sum() - 1

    registry.register("informedness", Metric(informedness, "metrics/informedness"))
    share = Metric(lambda counts: counts.sum(1) / counts.sum(), "share/{class}", per_class=True)
    registry.register("share", share)
    registry.register("ratio", Metric(lambda counts: counts[0, 0] / counts[2, 2]))
    registry.register("rate", ImageMetric(lambda c: c.right.sum(0) / c.truth.sum(), per_class=True))
    measured = measure(CONFUSION, AREAS, NAMES)
    assert measured["rate"] == {"a": 0.5, "b": 0.4, "c": 0.0}
    assert measured["informedness"] == pytest.approx(0.8)
    assert measured["share"] == {"a": 0.5, "b": 0.5, "c": 0.0}
    assert measured["ratio"] is None  # infinity, which JSON cannot hold
    assert json.loads(json.dumps(measured, allow_nan=False)) == measured
    assert named_values(measured)["share/b"] == 0.5
    shown = tensorboard_values(measured)
    assert shown["metrics/informedness"] == measured["informedness"] and shown["share/c"] == 0.0
    assert {"informedness", "share/c", "ratio"} < set(measure_lib.value_names(NAMES))


def test_a_metric_of_the_wrong_shape_is_named(registry):
    registry.register("wrong", Metric(lambda counts: counts.sum(1)))
    with pytest.raises(UserError, match=r"metric 'wrong' gives values of shape \[3\], not \[\]"):
        measure(CONFUSION, AREAS, NAMES)


def test_measuring_loads_no_tensorflow():
    code = (
        "import sys, numpy; from petseg.metrics.measure import measure, value_names; "
        "measure(numpy.eye(2, dtype=int), numpy.ones((1, 2, 3)), 'ab'); value_names('ab'); "
        "assert 'tensorflow' not in sys.modules"
    )
    done = commands.run_python("-c", code)
    assert done.returncode == 0, done.stderr
