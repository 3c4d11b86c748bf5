"""Removal of small regions against an implementation by SciPy's labels, pixel by pixel."""

import collections

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from petseg.inference.small_regions import remove_small

CORNERS = np.ones((3, 3), int)
MASKS = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.sampled_from([0, 1, 2, 253]),
)


def label_regions(mask):
    """A number for each region, from 0 in the order of their first pixels: int [height, width]."""
    labels, count = np.zeros(mask.shape, int), 0
    for class_id in np.unique(mask):
        of_class, found = ndimage.label(mask == class_id, CORNERS)
        labels += np.where(of_class > 0, of_class + count, 0)
        count += found
    _, firsts, ranks = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(firsts))[ranks].reshape(mask.shape)


def remove_slowly(mask, min_area_px):
    regions = label_regions(mask)
    areas = np.bincount(regions.ravel())
    kept = {i for i, area in enumerate(areas) if area >= min_area_px} | {int(areas.argmax())}
    height, width = mask.shape
    result = mask.copy()
    while len(kept) < len(areas):
        taken = {}
        for region in set(range(len(areas))) - kept:
            votes = collections.Counter()
            for row, column in np.argwhere(regions == region):
                for r, c in ((row - 1, column), (row + 1, column), (row, column - 1),
                             (row, column + 1)):  # fmt: skip
                    if 0 <= r < height and 0 <= c < width and int(regions[r, c]) in kept:
                        votes[int(result[r, c])] += 1
            if votes:
                most = max(votes.values())
                taken[region] = min(c for c, count in votes.items() if count == most)
        for region, class_id in taken.items():
            result[regions == region] = class_id
        kept |= taken.keys()
    return result


@given(MASKS, st.integers(0, 90))
@example(np.zeros((1, 1), np.uint8), 9)
@example(np.arange(9, dtype=np.uint8).reshape(1, 9) % 2, 2)
@example(np.arange(9, dtype=np.uint8).reshape(9, 1) % 2, 2)
def test_it_is_what_a_slow_loop_over_pixels_gives(mask, min_area_px):
    kept = mask.copy()
    found = remove_small(mask, min_area_px)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, remove_slowly(mask, min_area_px))
    np.testing.assert_array_equal(mask, kept)


@given(MASKS, st.integers(0, 40))
def test_no_small_region_is_left_and_large_ones_keep_their_pixels(mask, min_area_px):
    found = remove_small(mask, min_area_px)
    areas = np.bincount(label_regions(found).ravel())
    assert len(areas) == 1 or areas.min() >= min_area_px
    before = label_regions(mask)
    is_large = (np.bincount(before.ravel()) >= min_area_px)[before]
    np.testing.assert_array_equal(found[is_large], mask[is_large])
    np.testing.assert_array_equal(remove_small(found, min_area_px), found)


@pytest.mark.parametrize("share", [0.02, 0.4, 0.6])
def test_a_large_mask_of_many_regions_is_that_of_scipy(share):
    mask = (np.random.default_rng(0).random((90, 131)) < share).astype(np.uint8)
    np.testing.assert_array_equal(remove_small(mask, 4), remove_slowly(mask, 4))


def picture(*rows):
    return np.array([[int(letter) for letter in row] for row in rows], np.uint8)


def test_specks_go_and_holes_are_filled():
    mask = picture(
        "000000000",
        "010001110",
        "000001010",
        "000001110",
        "200000000",
    )
    assert (
        remove_small(mask, 2).tolist()
        == picture(
            "000000000",
            "000001110",
            "000001110",
            "000001110",
            "000000000",
        ).tolist()
    )
    np.testing.assert_array_equal(remove_small(mask, 1), mask)
    np.testing.assert_array_equal(remove_small(mask, 0), mask)


def test_pixels_that_touch_at_a_corner_are_one_region():
    mask = picture("1000", "0100", "0010")
    np.testing.assert_array_equal(remove_small(mask, 3), mask)
    assert not remove_small(mask, 4).any()


def test_a_region_takes_the_class_at_most_of_its_sides_and_the_lower_of_two():
    assert remove_small(picture("1112", "1312", "1112", "2222"), 2)[1, 1] == 1
    assert remove_small(picture("2213", "2213", "2293", "1113", "1113"), 2)[2, 2] == 1
    assert remove_small(picture("2223", "2293", "2223"), 2)[1, 2] == 2
    assert remove_small(picture("33922", "33922", "33922"), 4)[0, 2] == 2


def test_a_chain_of_small_regions_follows_the_first_that_has_its_class():
    assert remove_small(picture("0000123"), 2).tolist() == [[0] * 7]
    # The largest region stays, however small it is.
    assert remove_small(picture("0011122"), 100).tolist() == [[1] * 7]
