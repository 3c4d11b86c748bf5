import numpy as np
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


def test_a_panel_shows_image_truth_and_prediction_in_rows():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 20, 20, 3), np.uint8)
    truth = rng.choice(np.array([0, 1, IGNORE], np.uint8), (3, 20, 20))
    predicted = rng.integers(0, 2, (3, 20, 20), np.uint8)
    drawn = pictures.panel(images, truth, predicted, ("pet", "background"))

    def stands_in(cell: np.ndarray) -> list[tuple[int, int]]:
        rows, columns = (n - 20 + 1 for n in drawn.shape[:2])
        return [
            (y, x)
            for y in range(rows)
            for x in range(columns)
            if (drawn[y, x] == cell[0, 0]).all() and (drawn[y : y + 20, x : x + 20] == cell).all()
        ]

    places = [
        [
            stands_in(cell)[0]
            for cell in (
                images[row],
                pictures.colour_mask(truth[row], 2),
                pictures.colour_mask(predicted[row], 2),
            )
        ]
        for row in range(3)
    ]
    for row in places:
        assert row[0][0] == row[1][0] == row[2][0]
        assert row[0][1] < row[1][1] < row[2][1]
    assert places[0][0][0] < places[1][0][0] < places[2][0][0]


def test_a_panel_names_the_ignored_pixels_only_where_there_are_some():
    blank = np.zeros((1, 40, 40), np.uint8)
    images = np.zeros((1, 40, 40, 3), np.uint8)
    without = pictures.panel(images, blank, blank, ("a", "b"))
    with_some = pictures.panel(images, np.full_like(blank, IGNORE), blank, ("a", "b"))
    legend = slice(-14, None)
    assert (with_some[legend] != without[legend]).any()
    assert Image.fromarray(with_some).size == Image.fromarray(without).size
