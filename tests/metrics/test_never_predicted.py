import numpy as np

from petseg.metrics.never_predicted import never_predicted, warning

NAMES = ("pet", "background", "border")


def test_a_class_that_the_truth_has_and_no_prediction_is_named():
    counts = np.array([[5, 2, 0], [1, 9, 0], [3, 1, 0]])
    assert never_predicted(counts, NAMES) == ["border"]
    assert warning(["border"]).startswith("warning: class border is never predicted; ")


def test_absent_and_predicted_classes_are_not():
    absent = np.array([[5, 2, 0], [1, 9, 0], [0, 0, 0]])
    assert never_predicted(absent, NAMES) == []
    assert never_predicted(absent.T + 1, NAMES) == []


def test_several_are_one_line():
    counts = np.array([[0, 2, 0], [0, 9, 0], [0, 1, 0]])
    lost = never_predicted(counts, NAMES)
    assert lost == ["pet", "border"]
    assert warning(lost).startswith("warning: classes pet, border are never predicted")
    assert "class_weights=balanced" in warning(lost)
    assert "class_weights" not in warning(lost, has_class_weights=True)
