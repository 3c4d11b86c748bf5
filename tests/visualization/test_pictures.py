import numpy as np
import pytest
from PIL import Image

from petseg.data.label_map import IGNORE, parse_label_map
from petseg.visualization import pictures


def test_every_class_has_a_colour_of_its_own():
    table = pictures.colours(20, {})
    own = [tuple(table[i]) for i in [*range(20), IGNORE]]
    assert len(set(own)) == 21


@pytest.mark.parametrize("count", [9, 150, 254])
def test_colours_of_many_classes_can_be_seen_and_told_apart(count):
    table = pictures.colours(count, {})[:count].astype(int)
    assert table.sum(1).min() >= 150 and table.sum(1).max() <= 650
    apart = np.abs(table[:, None] - table[None]).max(-1) + 256 * np.eye(count, dtype=int)
    assert apart.min() >= 20
    assert tuple(pictures.colours(count, {})[IGNORE]) == (0, 0, 0)
    # More classes leave the colours of the others as they are.
    assert (pictures.colours(254, {})[:count] == table).all()


def test_a_default_colour_is_none_that_another_class_was_given():
    ours = pictures.colours(254, {})
    given = {3: tuple(ours[1].tolist()), 4: tuple(ours[6].tolist()), 5: tuple(ours[7].tolist())}
    for count in (6, 8, 254):
        table = pictures.colours(count, given)[:count]
        assert len({tuple(colour) for colour in table.tolist()}) == count
        assert all(tuple(table[class_id]) == colour for class_id, colour in given.items())


def test_a_class_has_the_colour_of_its_data_set():
    label_map = parse_label_map("sky=3; cat=5,6; dog=7; ignored=9")
    table = pictures.palette(label_map, {6: (1, 2, 3), 5: (4, 5, 6), 7: (0, 0, 0), 9: (9, 9, 9)})
    ours = pictures.colours(3, {})
    assert tuple(table[0]) == tuple(ours[0])  # it has none
    assert tuple(table[1]) == (4, 5, 6)  # of the first raw value that has one
    assert tuple(table[2]) == (0, 0, 0)
    assert tuple(table[IGNORE]) == (255, 255, 255)  # as black is taken


def test_an_overlay_lies_between_picture_and_colour():
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    ids = np.random.default_rng(1).integers(0, 3, (6, 7), np.uint8)
    table = pictures.colours(3, {})
    drawn = pictures.overlay(image, ids, table, [0, 2]).astype(int)
    np.testing.assert_array_equal(drawn[ids == 1], image[ids == 1])
    colour = table[ids]
    low, high = np.minimum(image, colour).astype(int), np.maximum(image, colour).astype(int)
    assert (drawn >= low - 1).all() and (drawn <= high + 1).all()
    assert (drawn != image).any()


@pytest.mark.parametrize("sides", [(20, 20), (20, 30), (30, 20)])
@pytest.mark.parametrize(("count", "side_by_side"), [(1, 1), (3, 1), (4, 2), (7, 2), (8, 2)])
def test_a_panel_shows_image_truth_and_prediction_of_each_example(count, side_by_side, sides):
    rng, (height, width) = np.random.default_rng(0), sides
    images = rng.integers(0, 256, (count, *sides, 3), np.uint8)
    truth = rng.choice(np.array([0, 1, IGNORE], np.uint8), (count, *sides))
    predicted = rng.integers(0, 2, (count, *sides), np.uint8)
    table = pictures.colours(2, {})
    drawn = pictures.panel(images, truth, predicted, ("pet", "background"), table)

    def place_of(cell: np.ndarray) -> tuple[int, int]:
        starts = np.argwhere((drawn == cell[0, 0]).all(-1))
        (found,) = [
            (int(y), int(x))
            for y, x in starts
            if drawn[y : y + height, x : x + width].shape == cell.shape
            and (drawn[y : y + height, x : x + width] == cell).all()
        ]
        return found

    places = [
        (
            place_of(images[i]),
            place_of(table[truth[i]]),
            place_of(table[predicted[i]]),
            place_of(pictures.errors(images[i], truth[i], predicted[i])),
        )
        for i in range(count)
    ]
    for image, true, prediction, errors in places:
        assert image[0] == true[0] == prediction[0] == errors[0]
        assert image[1] < true[1] < prediction[1] < errors[1]
    assert len({image[1] for image, *_ in places}) == side_by_side
    assert len({image for image, *_ in places}) == count


def test_errors_are_red_and_ignored_pixels_black():
    image = np.full((2, 2, 3), 100, np.uint8)
    truth = np.array([[0, 1], [IGNORE, 1]], np.uint8)
    predicted = np.array([[0, 0], [1, 1]], np.uint8)
    drawn = pictures.errors(image, truth, predicted)
    red, grey = drawn[0, 1], drawn[0, 0]
    assert red[0] > 2 * red[1] and (grey == grey[0]).all() and (drawn[1, 0] == 0).all()
    np.testing.assert_array_equal(drawn[1, 1], grey)


def test_a_panel_names_the_ignored_pixels_only_where_there_are_some():
    blank = np.zeros((1, 40, 40), np.uint8)
    images = np.zeros((1, 40, 40, 3), np.uint8)
    table = pictures.colours(2, {})
    without = pictures.panel(images, blank, blank, ("a", "b"), table)
    with_some = pictures.panel(images, np.full_like(blank, IGNORE), blank, ("a", "b"), table)
    legend = slice(-14, None)
    assert (with_some[legend] != without[legend]).any()
    assert Image.fromarray(with_some).size == Image.fromarray(without).size
