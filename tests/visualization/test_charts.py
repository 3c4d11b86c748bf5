import numpy as np
import pytest

from petseg.metrics.presence import Curve
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


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_each_class_has_a_chart_with_its_curves_and_its_threshold(count):
    rng = np.random.default_rng(count)
    drawn = {}
    for n in range(count):
        thresholds = np.sort(rng.random(6))
        drawn[f"class_{n}$"] = Curve(thresholds, rng.random(6), np.sort(rng.random(6))[::-1])
    chosen = {name: 0.0 if n == 1 else 0.2 + n / 10 for n, name in enumerate(drawn)}
    figure = charts.precision_recall(drawn, chosen)
    assert len(figure.axes) == count
    for axes, (name, curve) in zip(figure.axes, drawn.items(), strict=True):
        assert axes.get_title() == name
        precision, recall, *lines = axes.get_lines()
        np.testing.assert_array_equal(precision.get_xydata().T, [curve.thresholds, curve.precision])
        np.testing.assert_array_equal(recall.get_xydata().T, [curve.thresholds, curve.recall])
        marked = [line.get_xdata()[0] for line in lines]
        assert marked == ([chosen[name]] if chosen[name] else [])
    assert charts.to_svg(figure).startswith("<svg")


@pytest.mark.filterwarnings("error")  # matplotlib's: no room for the axes
@pytest.mark.parametrize(("count", "length"), [(1, 3), (9, 12), (40, 12), (3, 150)])
def test_the_names_of_curves_hide_no_line(count, length):
    lines = {f"{n:0{length}}": {0: 0.1, 10: 0.9} for n in range(count)}
    figure = charts.curves(lines, "step", "IoU")
    charts.to_pixels(figure)
    (axes,), (legend,) = figure.axes, figure.legends
    inside, names = axes.get_window_extent(), legend.get_window_extent()
    assert names.x0 >= inside.x1 and figure.bbox.x1 >= names.x1
    assert figure.bbox.y0 <= names.y0 and names.y1 <= figure.bbox.y1
    assert inside.width > 350 and inside.height > 200
    shown = [name if length < 150 else f"…{name[-50:]}" for name in lines]
    assert [text.get_text() for text in legend.get_texts()] == shown
    assert figure.get_figwidth() < 10
