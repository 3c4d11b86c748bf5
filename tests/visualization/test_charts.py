import numpy as np

from petseg.visualization import charts


def test_the_same_chart_gives_the_same_svg_and_another_one_another():
    one, other = (np.array([[5, n], [0, 0]]) for n in (1, 2))
    drawn = [charts.to_svg(charts.confusion_matrix(c, ("a", "b"))) for c in (one, one, other)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0].startswith("<svg") and drawn[0].rstrip().endswith("</svg>")
