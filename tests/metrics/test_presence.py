import numpy as np
import pytest
import sklearn.metrics

from petseg.data.label_map import IGNORE
from petseg.metrics.base import ImageCounts
from petseg.metrics.presence import (
    Presence,
    area_under_roc,
    choose_thresholds,
    curves,
    presence_figures,
    presence_tags,
    warning,
)

NAMES = ("background", "nerve", "vessel")


def drawn(rng: np.random.Generator, images: int) -> Presence:
    """Images of 100 pixels; some hold no nerve, some predictions none either; rounded, so equal."""
    truth = np.stack([rng.integers(0, 40, images) * rng.integers(0, 2, images) for _ in "nv"])
    predicted = np.stack([rng.integers(0, 40, images) * rng.integers(0, 2, images) for _ in "nv"])
    right = np.minimum(truth, predicted) // 2
    truth, predicted, right = (
        np.vstack([100 - one.sum(0), one]).T for one in (truth, predicted, right)
    )
    ignored = rng.random(images) < 0.2
    counts = [np.where(ignored[:, None], 0, one) for one in (right, truth, predicted)]
    noise = rng.normal(0, 1, (images, 3)) + 1.5 * (truth > 0)
    labels = np.where(ignored[:, None], IGNORE, counts[1] > 0).astype(np.uint8)
    return Presence(np.round(1 / (1 + np.exp(-noise)), 1), ImageCounts(*counts, NAMES), labels)


def rows_that_count(presence):
    return [row for row in range(len(presence.probabilities)) if presence.counts.truth[row].sum()]


def dice(presence, row, class_id, is_suppressed):
    right, truth, predicted = (
        int(pixels[row, class_id])
        for pixels in (presence.counts.right, presence.counts.truth, presence.counts.predicted)
    )
    if is_suppressed:
        right, predicted = 0, 0
    return 1.0 if truth + predicted == 0 else 2 * right / (truth + predicted)


@pytest.mark.parametrize("seed", range(5))
def test_a_threshold_gives_the_highest_mean_dice(seed):
    presence = drawn(np.random.default_rng(seed), 60)
    thresholds, rows = choose_thresholds(presence), rows_that_count(presence)
    gained = []
    for class_id, threshold in enumerate(thresholds):
        p = presence.probabilities[:, class_id]

        def mean(t, class_id=class_id, p=p):
            return np.mean([dice(presence, row, class_id, p[row] < t) for row in rows])

        best = max(mean(t) for t in [0.0, *p[rows], 1.1])
        assert mean(threshold) == pytest.approx(best, abs=1e-12)
        gained.append(best > mean(0.0))
        # The lowest of the best ones: one step lower is worse.
        below = [t for t in np.unique(p[rows]) if t < threshold]
        assert not below or mean(below[-1]) < best
    assert gained[0] is np.False_ or not gained[0]
    assert any(gained[1:])


@pytest.mark.parametrize("seed", range(5))
def test_the_area_is_the_share_of_pairs_in_order(seed):
    presence = drawn(np.random.default_rng(seed), 40)
    rows = rows_that_count(presence)
    p, there = presence.probabilities[rows], presence.counts.truth[rows] > 0
    thresholds = choose_thresholds(presence)
    if seed % 2:  # any others, such as those of another split
        thresholds = np.random.default_rng(seed).random(3)
    figures = presence_figures(presence, thresholds)
    assert list(figures["presence_threshold"].values()) == list(thresholds)
    for class_id, name in enumerate(NAMES):
        pairs = [
            1.0 if p[a, class_id] > p[b, class_id] else 0.5 * (p[a, class_id] == p[b, class_id])
            for a in range(len(rows))
            for b in range(len(rows))
            if there[a, class_id] and not there[b, class_id]
        ]
        expected = np.mean(pairs) if pairs else None
        assert figures["presence_auc"][name] == (expected and pytest.approx(expected))
        called = p[:, class_id] >= figures["presence_threshold"][name]
        right = int((called & there[:, class_id]).sum())
        precision = right / called.sum() if called.any() else None
        assert figures["presence_precision"][name] == (precision and pytest.approx(precision))
        assert figures["presence_recall"][name] == pytest.approx(right / there[:, class_id].sum())
        assert figures["presence_prevalence"][name] == pytest.approx(there[:, class_id].mean())
    tags = presence_tags(figures)
    assert tags["presence/auc/nerve"] == figures["presence_auc"]["nerve"]


@pytest.mark.parametrize("seed", range(5))
def test_the_curves_are_those_of_scikit_learn(seed):
    presence = drawn(np.random.default_rng(seed), 40)
    rows = rows_that_count(presence)
    p, there = presence.probabilities[rows], presence.counts.truth[rows] > 0
    found = curves(presence)
    mixed = [i for i in range(3) if 0 < there[:, i].sum() < len(rows)]
    assert list(found) == [NAMES[i] for i in mixed] and len(mixed) >= 2
    for class_id in mixed:
        of_class = found[NAMES[class_id]]
        assert (of_class.thresholds[0] == 0) and (np.diff(of_class.thresholds) > 0).all()
        expected = sklearn.metrics.precision_recall_curve(there[:, class_id], p[:, class_id])
        precision, recall, thresholds = expected
        skipped = len(of_class.thresholds) - len(thresholds)  # theirs begins without the 0
        assert skipped in (0, 1)
        np.testing.assert_array_equal(of_class.thresholds[skipped:], thresholds)
        np.testing.assert_allclose(of_class.precision[skipped:], precision[:-1])
        np.testing.assert_allclose(of_class.recall[skipped:], recall[:-1])
        assert of_class.precision[0] == pytest.approx(there[:, class_id].mean())
        assert of_class.recall[0] == 1


def test_a_class_that_is_always_there_has_no_area():
    there = np.array([[True, False, True], [True, False, False]])
    probabilities = np.array([[0.9, 0.1, 0.4], [0.8, 0.2, 0.4]])
    areas = [area_under_roc(p, t) for p, t in zip(probabilities.T, there.T, strict=True)]
    np.testing.assert_array_equal(areas, [np.nan, np.nan, 0.5])


def test_images_that_all_hold_the_same_classes_are_noticed():
    truth = np.array([[90, 10, 0], [50, 50, 0], [0, 0, 0]])
    labels = np.array([[1, 1, 0], [1, 1, 0], [IGNORE] * 3], np.uint8)
    presence = Presence(np.full((3, 3), 0.5), ImageCounts(truth, truth, truth, NAMES), labels)
    assert warning(presence).startswith("each of nerve, vessel is in all validation images, or")
    labels[1, 1] = 0
    assert warning(presence) == ""


def test_labels_alone_say_which_images_count_for_the_area():
    """As for patches: an image without a counted pixel may lack a class, or it is not known."""
    truth = np.array([[90, 10], [0, 0], [0, 0], [60, 40]])
    labels = np.array([[IGNORE, 1], [IGNORE, 0], [IGNORE, IGNORE], [IGNORE, 1]], np.uint8)
    probabilities = np.array([[0.5, 0.9], [0.5, 0.6], [0.5, 1.0], [0.5, 0.3]])
    counts = ImageCounts(truth, truth, truth, ("background", "object"))
    presence = Presence(probabilities, counts, labels)
    figures = presence_figures(presence, choose_thresholds(presence))
    assert figures["presence_auc"] == {"background": None, "object": 0.5}
    assert figures["presence_threshold"] == {"background": 0.0, "object": 0.0}
    assert figures["presence_precision"]["object"] == pytest.approx(2 / 3)
