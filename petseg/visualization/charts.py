"""Draws charts with matplotlib."""

import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from petseg.metrics.presence import Curve
from petseg.visualization import fonts

_DPI = 100
_NUMBERED_CLASSES = 20  # with more classes the numbers would not fit their cells
_NAMED_CLASSES = 60
_MOST_LETTERS = 50  # of a line's name, which ends with what tells runs apart


class ConfusionChart:
    """Draws confusion matrices of the same classes: what they have in common is laid out once."""

    def __init__(self, names: Sequence[str]):
        """Draws all but the matrix.

        Args:
          names: Names of the classes.
        """
        self._count = count = len(names)
        side = min(max(2.2 + 0.55 * count, 3.6), 12.0)
        self._figure = Figure(figsize=(side + 0.8, side), dpi=_DPI, layout="constrained")
        self._axes = axes = self._figure.add_subplot()
        self._image = axes.imshow(np.zeros((count, count)), cmap="Blues", vmin=0, vmax=1)
        self._figure.colorbar(self._image, ax=axes, shrink=0.8, label="share of the true class")
        axes.set_xlabel("predicted")
        axes.set_ylabel("truth")
        if count <= _NAMED_CLASSES:
            texts, families = fonts.fit(names)
            style = {"fontfamily": families, "parse_math": False}
            axes.set_xticks(range(count), texts, rotation=45, ha="right", **style)
            axes.set_yticks(range(count), texts, **style)

    def draw(self, confusion: np.ndarray) -> Figure:
        """Draws the shares of each true class's pixels by predicted class; rows add up to 1.

        Args:
          confusion: int64 [classes, classes], rows the truth; a row without pixels stays empty.

        Returns:
          The chart, which the next call changes.
        """
        totals = confusion.sum(1, keepdims=True)
        empty = np.full(confusion.shape, np.nan)
        shares = np.divide(confusion, totals, out=empty, where=totals > 0)
        self._image.set_data(shares)
        for text in [*self._axes.texts]:
            text.remove()
        if self._count <= _NUMBERED_CLASSES:
            for row, column in np.argwhere(~np.isnan(shares)):
                share, style = shares[row, column], {"ha": "center", "va": "center"}
                colour = "white" if share > 0.5 else "black"
                self._axes.text(column, row, f"{share:.3f}", color=colour, **style)
        return self._figure

    def pixels(self, confusion: np.ndarray) -> np.ndarray:
        """Renders the chart of a matrix as uint8 [height, width, 3]."""
        pixels = to_pixels(self.draw(confusion))
        self._figure.set_layout_engine("none")  # it is laid out: the numbers change nothing
        return pixels


def confusion_matrix(confusion: np.ndarray, names: Sequence[str]) -> Figure:
    """Draws one confusion matrix; see ConfusionChart.draw.

    Args:
      confusion: int64 [classes, classes], rows the truth; a row without pixels stays empty.
      names: Names of the classes.
    """
    return ConfusionChart(names).draw(confusion)


def histogram(values: np.ndarray, label: str) -> Figure:
    """Draws how many images have which value.

    Args:
      values: float [images], between 0 and 1.
      label: Label of the values' axis.
    """
    figure = Figure(figsize=(5.0, 2.8), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.hist(values, bins=np.linspace(0, 1, 41), color="#0072b2")
    axes.axvline(float(np.mean(values)), color="#d55e00", label=f"mean {np.mean(values):.3f}")
    axes.set_xlabel(label)
    axes.set_ylabel("images")
    axes.legend()
    return figure


def curves(lines: Mapping[str, Mapping[float, float | None]], x_label: str, y_label: str) -> Figure:
    """Draws lines with a mark at each point.

    Args:
      lines: Name of the line -> x -> y; None for y leaves a gap.
      x_label: Label of the x axis.
      y_label: Label of the y axis.
    """
    figure = Figure(figsize=(5.0, 2.8), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    texts, families = fonts.fit(lines)
    for text, values in zip(texts, lines.values(), strict=True):
        numbers = [np.nan if value is None else value for value in values.values()]
        end = text if len(text) <= _MOST_LETTERS else f"…{text[-_MOST_LETTERS:]}"
        label = end.replace("$", r"\$")
        axes.plot(list(values), numbers, marker="o", markersize=3, label=label)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    # Beside the chart, which keeps its size: within it, many names would hide the lines.
    legend = figure.legend(loc="outside right upper", prop={"family": families, "size": 8})
    needed = legend.get_window_extent().padded(8).transformed(figure.dpi_scale_trans.inverted())
    figure.set_size_inches(5.0 + needed.width, max(2.8, needed.height))
    return figure


def precision_recall(curves: Mapping[str, Curve], chosen: Mapping[str, float]) -> Figure:
    """Draws precision and recall over the threshold, a chart for each class.

    Args:
      curves: By name of the class, at least one.
      chosen: The threshold of each class, which is marked; 0 is not.
    """
    columns = min(len(curves), 3)
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(3.9 * columns, 2.8 * rows), dpi=_DPI, layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    texts, families = fonts.fit(curves)
    for axes, text, (name, curve) in zip(grid, texts, curves.items(), strict=False):
        # A value holds for all thresholds from the last probability up to its own.
        style = {"drawstyle": "steps-pre"}
        axes.plot(curve.thresholds, curve.precision, color="#0072b2", label="precision", **style)
        axes.plot(curve.thresholds, curve.recall, color="#e69f00", label="recall", **style)
        if chosen[name]:
            label = f"threshold {chosen[name]:.3f}"
            axes.axvline(chosen[name], color="#444444", linestyle="--", label=label)
        axes.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="threshold")
        axes.set_title(text, fontfamily=families, parse_math=False, fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower left")
    for axes in grid[len(curves) :]:
        axes.remove()
    return figure


def to_pixels(figure: Figure) -> np.ndarray:
    """Renders a chart as uint8 [height, width, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def to_svg(figure: Figure) -> str:
    """Renders a chart as an <svg> element; the same chart gives the same text."""
    text = io.StringIO()
    # Without a salt, the ids of its elements are random.
    with matplotlib.rc_context({"svg.hashsalt": "petseg"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
