import numpy as np
import pytest
from PIL import Image

from petseg import pictures
from petseg.label_map import IGNORE


def test_every_class_has_a_colour_of_its_own():
    table = pictures.colours(20)
    own = [tuple(table[i]) for i in [*range(20), IGNORE]]
    assert len(set(own)) == 21


def test_an_overlay_lies_between_picture_and_colour():
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    ids = np.random.default_rng(1).integers(0, 3, (6, 7), np.uint8)
    drawn = pictures.overlay(image, ids, 3).astype(int)
    colour = pictures.colour_mask(ids, 3)
    low, high = np.minimum(image, colour).astype(int), np.maximum(image, colour).astype(int)
    assert (drawn >= low - 1).all() and (drawn <= high + 1).all()
    assert (drawn != image).any()


@pytest.mark.parametrize(("count", "side_by_side"), [(1, 1), (3, 1), (4, 2), (7, 2), (8, 2)])
def test_a_panel_shows_image_truth_and_prediction_of_each_example(count, side_by_side):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 20, 20, 3), np.uint8)
    truth = rng.choice(np.array([0, 1, IGNORE], np.uint8), (count, 20, 20))
    predicted = rng.integers(0, 2, (count, 20, 20), np.uint8)
    drawn = pictures.panel(images, truth, predicted, ("pet", "background"))

    def place_of(cell: np.ndarray) -> tuple[int, int]:
        starts = np.argwhere((drawn == cell[0, 0]).all(-1))
        (found,) = [
            (int(y), int(x))
            for y, x in starts
            if drawn[y : y + 20, x : x + 20].shape == cell.shape
            and (drawn[y : y + 20, x : x + 20] == cell).all()
        ]
        return found

    places = [
        (
            place_of(images[i]),
            place_of(pictures.colour_mask(truth[i], 2)),
            place_of(pictures.colour_mask(predicted[i], 2)),
        )
        for i in range(count)
    ]
    for image, true, prediction in places:
        assert image[0] == true[0] == prediction[0]
        assert image[1] < true[1] < prediction[1]
    assert len({image[1] for image, _, _ in places}) == side_by_side
    assert len({image for image, _, _ in places}) == count


def test_a_panel_names_the_ignored_pixels_only_where_there_are_some():
    blank = np.zeros((1, 40, 40), np.uint8)
    images = np.zeros((1, 40, 40, 3), np.uint8)
    without = pictures.panel(images, blank, blank, ("a", "b"))
    with_some = pictures.panel(images, np.full_like(blank, IGNORE), blank, ("a", "b"))
    legend = slice(-14, None)
    assert (with_some[legend] != without[legend]).any()
    assert Image.fromarray(with_some).size == Image.fromarray(without).size
