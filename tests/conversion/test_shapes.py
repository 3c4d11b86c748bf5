"""Shapes become the pixels whose centres lie within them."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from testing.annotations import box, boxes

from petseg.conversion import rle, shapes
from petseg.conversion.shapes import BadShape, Shape

SIZE = (40, 60)


def shape(kind, *points, label="a", place="shape 0"):
    return Shape(label, kind, (shapes.to_points([list(p) for p in points]),), place)


def drawn(*found, size=SIZE, smaller_on_top=False):
    return shapes.draw(found, {"a": 1, "b": 2}, 0, size, smaller_on_top)


@pytest.mark.parametrize("kind", ["polygon", "rectangle"])
def test_a_box_covers_the_pixels_between_its_corners(kind):
    corners = box(10, 5, 20, 12) if kind == "polygon" else [(10, 5), (20, 12)]
    assert (drawn(shape(kind, *corners)) == boxes((1, 10, 5, 20, 12))).all()


def test_a_shape_that_leaves_the_image_is_clipped():
    assert (drawn(shape("polygon", *box(-10, -5, 5, 90))) == boxes((1, 0, 0, 5, 40))).all()


def test_round_shapes_cover_the_centres_within():
    y, x = np.mgrid[0:40, 0:60] + 0.5
    disc = np.hypot(x - 30, y - 20) <= 9
    assert (drawn(shape("circle", (30, 20), (39, 20))) == disc).all()
    assert (drawn(shape("ellipse", (30, 20), (9, 9))) == disc).all()
    oval = ((x - 30) / 12) ** 2 + ((y - 20) / 5) ** 2 <= 1
    assert (drawn(shape("ellipse", (30, 20), (12, 5))) == oval).all()
    upright = ((x - 30) / 5) ** 2 + ((y - 20) / 12) ** 2 <= 1
    assert (drawn(shape("ellipse", (30, 20), (12, 5), (math.pi / 2, 0))) == upright).all()


def test_lines_and_points_are_as_wide_as_labelme_draws_them():
    y, x = np.mgrid[0:40, 0:60] + 0.5
    assert (drawn(shape("point", (30, 20))) == (np.hypot(x - 30, y - 20) <= 5)).all()
    level = drawn(shape("line", (20, 20), (40, 20)))
    assert (level[:, 30] == ((y > 15) & (y < 25))[:, 30]).all()
    bent = drawn(shape("line", (20, 10), (40, 10), (40, 30)))
    assert bent[10, 30] == bent[25, 40] == 1
    assert bent[25, 25] == 0


def test_overlaps_are_decided_by_order_or_by_size():
    small, large = shape("rectangle", (5, 5), (10, 10)), shape("rectangle", (0, 0), (30, 30))
    large = Shape("b", *[getattr(large, f) for f in ("kind", "parts", "place", "pixels")])
    assert drawn(small, large)[7, 7] == 2
    assert drawn(large, small)[7, 7] == drawn(small, large, smaller_on_top=True)[7, 7] == 1


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(-40, 100, width=32)] * 2), min_size=3, max_size=9),
    st.integers(1, 70),
    st.integers(1, 70),
)
def test_polygons_cover_what_cocos_own_tools_say(points, height, width):
    numbers = [number for point in points for number in point]
    encoded = coco_mask.merge(coco_mask.frPyObjects([numbers], height, width))
    mask = drawn(shape("polygon", *points), size=(height, width))
    assert (mask == coco_mask.decode(encoded)).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 40)] * 2), min_size=3, max_size=7, unique=True))
def test_polygons_agree_with_an_independent_rule_but_for_their_edges(points):
    y, x = np.mgrid[0:40, 0:60] + 0.5
    inside, near = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        crosses = (y0 <= y) != (y1 <= y)
        with np.errstate(divide="ignore", invalid="ignore"):
            at = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
        inside ^= crosses & (x < at)
        along = (x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)
        share = np.clip(along / ((x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1)
        near |= np.hypot(x - x0 - share * (x1 - x0), y - y0 - share * (y1 - y0)) < 1
    mask = drawn(shape("polygon", *points)).astype(bool)
    assert (mask == inside)[~near].all()


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (shape("polygon", (1, 1), (5, 5)), "polygon of fewer than 3 points: 2"),
        (shape("polygon", *box(60, 0, 70, 10)), "lies wholly outside the image"),
        (shape("circle", (30, 60), (35, 60)), "lies wholly outside the image"),
        (shape("rectangle", (1, 1)), "rectangle of fewer than 2 points: 1"),
        (shape("polygon", *box(-5, -5, 1, 1)), None),
    ],
)
def test_what_can_have_no_pixel_is_said(found, reason):
    assert shapes.why_empty(found, *SIZE) == reason
    assert drawn(found).any() == (reason is None)


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ([[1, float("nan")], [2, 3]], "no finite number"),
        ([1, 2, 3], "no pairs"),
        ([[1, 2], [3]], "no pairs"),
        (["1", "2"], "no numbers"),
        ([None, 2], "no numbers"),
        ([1e300, 2], "more than 1,000,000 px away"),
    ],
)
def test_points_that_are_none_are_refused(numbers, reason):
    with pytest.raises(BadShape, match=reason):
        shapes.to_points(numbers)


def test_a_polygon_that_would_need_all_memory_is_refused():
    far = [(-900_000, 0), (900_000, 1)] * 3
    with pytest.raises(BadShape, match=r"more than 4,000,000 px long: shape 0"):
        drawn(shape("polygon", *far))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.randoms(use_true_random=False))
def test_rle_is_decoded_as_pycocotools_does(height, width, random):
    mask = np.array([[random.random() < 0.4 for _ in range(width)] for _ in range(height)])
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert (rle.decode(encoded["counts"].decode(), (height, width)) == mask).all()


@pytest.mark.parametrize("text", ["", "P", "zzzz", "ü", "0" * 9, "11", "o" * 200])
def test_damaged_rle_is_refused(text):
    with pytest.raises(BadShape, match="RLE"):
        rle.decode(text, (4, 4))


def test_smaller_shapes_lie_on_top_whatever_the_order():
    rng = np.random.default_rng(3)
    found, expected = [], np.zeros(SIZE, np.uint8)
    for number in range(20):
        (left, right), (top, bottom) = (np.sort(rng.integers(0, side, 2)) for side in (60, 40))
        found.append(shape("rectangle", (left, top), (right, bottom), label="ab"[number % 2]))
    for each in sorted(found, key=lambda s: -np.count_nonzero(drawn(s))):
        expected[drawn(each) > 0] = {"a": 1, "b": 2}[each.label]
    assert (drawn(*found, smaller_on_top=True) == expected).all()


def test_run_lengths_are_decoded_one_at_a_time():
    size, counts = (1000, 1000), [100, 900, 999_000]
    found = [Shape("a", "rle", (), f"shape {i}", counts=counts) for i in range(200)]
    tracemalloc.start()
    labels = drawn(*found, size=size, smaller_on_top=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert labels[100:, 0].all() and labels.sum() == 900
    assert peak < 20_000_000  # all 200 would take 200 MB
