import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from petseg.data.label_map import IGNORE
from petseg.metrics import pixel_counts

CLASSES = 4
LABELS = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(1, 8)),
    elements=st.sampled_from([0, 1, 2, 3, IGNORE]),
)  # fmt: skip


@st.composite
def pairs(draw):
    truth = draw(LABELS)
    predicted = draw(hnp.arrays(np.int64, truth.shape, elements=st.integers(0, CLASSES - 1)))
    return truth, predicted


@settings(deadline=None)
@given(pairs())
def test_pairs_are_counted_as_a_plain_loop_counts_them(pair):
    truth, predicted = pair
    expected = np.zeros((CLASSES, CLASSES), np.int64)
    for t, p in zip(truth.ravel(), predicted.ravel(), strict=True):
        if t != IGNORE:
            expected[t, p] += 1
    counts = pixel_counts.count_pairs(truth, predicted, CLASSES)
    assert counts.dtype == "int64" and counts.shape == (len(truth), CLASSES, CLASSES)
    np.testing.assert_array_equal(tf.reduce_sum(counts, 0), expected)
    # Each image has its own counts: those of the image alone.
    for image in range(len(truth)):
        alone = pixel_counts.count_pairs(truth[image][None], predicted[image][None], CLASSES)
        np.testing.assert_array_equal(counts[image], alone[0])
        mean_iou = pixel_counts.score(alone[0].numpy()).mean_iou
        given = pixel_counts.image_mean_iou(counts)[image].numpy()
        np.testing.assert_allclose(given, mean_iou, rtol=1e-6)


@settings(deadline=None)
@given(pairs())
def test_scores_are_those_of_sets_of_pixels(pair):
    truth, predicted = pair
    counts = pixel_counts.count_pairs(truth, predicted, CLASSES)
    scores = pixel_counts.score(tf.reduce_sum(counts, 0).numpy())
    valid = truth != IGNORE
    ious = []
    for class_id in range(CLASSES):
        t, p = (truth == class_id) & valid, (predicted == class_id) & valid
        union = (t | p).sum()
        if union == 0:
            assert class_id in scores.absent
            assert np.isnan(scores.iou[class_id]) and np.isnan(scores.dice[class_id])
        else:
            ious.append((t & p).sum() / union)
            assert scores.iou[class_id] == pytest.approx(ious[-1])
            assert scores.dice[class_id] == pytest.approx(2 * (t & p).sum() / (t.sum() + p.sum()))
    assert scores.pixels == valid.sum()
    if ious:
        assert scores.mean_iou == pytest.approx(np.mean(ious))
        assert scores.pixel_accuracy == pytest.approx((truth == predicted)[valid].mean())
    else:
        assert np.isnan(scores.mean_iou) and np.isnan(scores.pixel_accuracy)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("present", [(0, 1, 2, 3), (1, 3), (2,), (IGNORE,), (0, IGNORE)])
def test_counts_and_scores_are_those_of_scikit_learn(seed, present):
    rng = np.random.default_rng(seed)
    truth = rng.choice(np.array(present, np.uint8), (2, 17, 23))
    predicted = rng.integers(0, CLASSES, truth.shape)
    counts = tf.reduce_sum(pixel_counts.count_pairs(truth, predicted, CLASSES), 0).numpy()
    valid = truth != IGNORE
    expected = np.zeros((CLASSES, CLASSES), int)
    if valid.any():
        pairs = truth[valid], predicted[valid]
        expected = sklearn.metrics.confusion_matrix(*pairs, labels=range(CLASSES))
    np.testing.assert_array_equal(counts, expected)
    if not valid.any():
        return
    scores = pixel_counts.score(counts)
    options = {"labels": range(CLASSES), "average": None, "zero_division": np.nan}
    for name, function in (
        ("iou", sklearn.metrics.jaccard_score),
        ("precision", sklearn.metrics.precision_score),
        ("recall", sklearn.metrics.recall_score),
        ("dice", sklearn.metrics.f1_score),
    ):
        options["zero_division"] = np.nan if name != "iou" else 0.0
        found, wanted = getattr(scores, name), function(*pairs, **options)
        there = np.array([i not in scores.absent for i in range(CLASSES)])
        if name in ("precision", "recall"):
            np.testing.assert_allclose(found[there], wanted[there])
        else:
            np.testing.assert_allclose(found[there], np.nan_to_num(wanted[there]))
    assert scores.pixel_accuracy == pytest.approx(sklearn.metrics.accuracy_score(*pairs))
    weights = counts.sum(1) / counts.sum()
    assert scores.frequency_weighted_iou == pytest.approx(np.nansum(weights * scores.iou))


def test_two_to_the_25_pixels_are_counted_exactly():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (1, 2**25), np.uint8)
    predicted = truth.copy()
    predicted[0, :3] ^= 1
    counts = pixel_counts.count_pairs(truth, predicted, 2)[0].numpy()
    ones, wrong_ones = int(truth.sum(dtype=np.int64)), int(truth[0, :3].sum())
    assert counts.tolist() == [
        [2**25 - ones - (3 - wrong_ones), 3 - wrong_ones],
        [wrong_ones, ones - wrong_ones],
    ]


def test_counts_stay_exact_beyond_float32():
    # 2^24 + 1 is the first whole number that float32 cannot hold.
    half = np.zeros((1, 2**24 + 1), np.uint8)
    confusion = pixel_counts.count_pairs(half, half, 2)[0].numpy() * 3
    assert confusion[0, 0] == 3 * (2**24 + 1)
    confusion[0, 1] = 1
    assert pixel_counts.score(confusion).pixels == 3 * (2**24 + 1) + 1
    assert pixel_counts.score(confusion).iou[0] < 1


def test_absent_classes_have_no_value_by_name():
    confusion = np.array([[5, 0, 0], [1, 4, 0], [0, 0, 0]])
    scores = pixel_counts.score(confusion)
    assert pixel_counts.by_name(scores.iou, ("a", "b", "c")) == {"a": 5 / 6, "b": 4 / 5, "c": None}
    assert scores.mean_iou == pytest.approx((5 / 6 + 4 / 5) / 2)
