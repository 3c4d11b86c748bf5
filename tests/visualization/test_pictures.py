import itertools

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


def blocks(rng, count, sides=(64, 64)):
    """Masks of large squares, each of some class of `count`."""
    ids = rng.integers(0, count, (sides[0] // 8, sides[1] // 8), np.uint8)
    return np.kron(ids, np.ones((8, 8), np.uint8))


def colours_of(drawn):
    return {tuple(pixel) for pixel in drawn.reshape(-1, 3).tolist()}


@pytest.mark.parametrize("count", [3, 12, 13, 60, 254])
@pytest.mark.parametrize("shape", ["panel", "squares"])
def test_the_legend_names_every_class_that_is_seen(count, shape):
    rng = np.random.default_rng(count)
    names = [f"class number {n}" for n in range(count)]
    images = np.zeros((2, 64, 64, 3), np.uint8)
    truth = np.stack([blocks(rng, count) for _ in images])
    predicted = np.stack([blocks(rng, count) for _ in images])
    table = pictures.colours(count, {})
    draw = pictures.panel if shape == "panel" else pictures.squares
    without, with_legend = (
        draw(images, of, of_predicted, names, table)
        for of, of_predicted in ((truth * 0, truth * 0), (truth, predicted))
    )
    seen = set(np.unique([truth, predicted]).tolist())
    shown = set(range(count)) if count <= 12 else seen
    # Pictures are above the legend: as many rows as two classes need, less the legend's.
    rows = 2 * (64 + 4) + 16 if shape == "panel" else 2 * (64 + 16) + 4
    legend = with_legend[..., rows:, :, :]
    drawn = colours_of(legend)
    assert {n for n in range(count) if tuple(table[n].tolist()) in drawn} == shown
    assert legend.shape[-2] == without.shape[-2]
    if shape == "squares":
        assert (legend[0] == legend[1]).all()


def test_a_square_shows_image_truth_prediction_and_errors_in_reading_order():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 24, 40, 3), np.uint8)
    truth = rng.choice(np.array([0, 1, IGNORE], np.uint8), (3, 24, 40))
    predicted = rng.integers(0, 2, (3, 24, 40), np.uint8)
    table = pictures.colours(2, {})
    drawn = pictures.squares(images, truth, predicted, ("pet", "background"), table)
    assert drawn.shape[:2] == (3, 2 * (16 + 24) + 4 + 16 * 4)  # the legend takes four lines
    for number, picture in enumerate(drawn):
        errors = pictures.errors(images[number], truth[number], predicted[number])
        cells = (images[number], table[truth[number]], table[predicted[number]], errors)
        for cell, (top, left) in zip(cells, [(16, 4), (16, 48), (56, 4), (56, 48)], strict=True):
            np.testing.assert_array_equal(picture[top : top + 24, left : left + 40], cell)


@pytest.mark.parametrize("side", [24, 64])
def test_a_caption_stays_on_its_picture(side):
    images = np.zeros((1, side, side, 3), np.uint8)
    truth = np.ones((1, side, side), np.uint8)
    table = pictures.colours(2, {})
    captions = [pictures.caption("a_very_long_name_of_an_image_0001", 0.5)]
    for draw in (pictures.panel, pictures.squares):
        plain, written = (
            draw(images, truth, truth, ("pet", "background"), table, of) for of in ((), captions)
        )
        plain, written = (one.reshape(-1, *one.shape[-2:]) for one in (plain, written))
        rows, columns = np.nonzero((plain != written).any(-1))
        image = (plain == 0).all(-1)
        errors = (plain == pictures.errors(images[0], truth[0], truth[0])[0, 0]).all(-1)
        assert rows.size and (image | errors)[rows, columns].all()
        assert image[rows, columns].any() and errors[rows, columns].any()


def test_a_caption_says_what_its_figure_is():
    assert pictures.caption("Slate_1", 0.25) == ("Slate_1", "mean IoU 0.250")
    for nothing in (None, float("nan")):
        assert pictures.caption("Slate_1", nothing) == ("Slate_1", "all ignored")


def test_cells_are_no_higher_than_the_highest_picture():
    images = [np.zeros((30, 60, 3), np.uint8), np.zeros((20, 60, 3), np.uint8)]
    ids = [np.zeros(image.shape[:2], np.uint8) for image in images]
    drawn = pictures.panel(images, ids, ids, ("a",), pictures.colours(1, {}), cell_px=120)
    assert drawn.shape == (2 * (60 + 4) + 2 * 16, 4 * (120 + 4) + 2 * 4, 3)


def test_a_legend_has_a_line_for_each_long_name():
    entries = [("m" * 300, (10 * n, 5, 250 - 10 * n)) for n in range(12)]
    drawn = np.asarray(pictures.legend(entries, 400))
    assert drawn.shape[1] == 400
    lines = [np.flatnonzero((drawn == colour).all(-1).any(1)) for _, colour in entries]
    assert all(line.size for line in lines)
    assert all(a[-1] < b[0] for a, b in itertools.pairwise(lines))
    assert (drawn[-1] == 255).all()  # white to the end
