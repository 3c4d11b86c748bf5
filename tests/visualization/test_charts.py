import numpy as np
import pytest

from petseg.visualization import charts


@pytest.mark.parametrize("count", [2, 3, 20, 21])
def test_a_chart_that_is_drawn_again_is_a_new_one(count):
    rng = np.random.default_rng(count)
    names = [f"class {n}" * (1 + n % 3) for n in range(count)]
    again = charts.ConfusionChart(names)
    for row in range(3):
        confusion = rng.integers(0, 9, (count, count)) ** 3
        confusion[row % count] = 0
        new = charts.to_pixels(charts.confusion_matrix(confusion, names))
        np.testing.assert_array_equal(again.pixels(confusion), new)


def test_the_same_chart_gives_the_same_svg_and_another_one_another():
    one, other = (np.array([[5, n], [0, 0]]) for n in (1, 2))
    drawn = [charts.to_svg(charts.confusion_matrix(c, ("a", "b"))) for c in (one, one, other)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0].startswith("<svg") and drawn[0].rstrip().endswith("</svg>")
