"""The page of an evaluation: one HTML file that needs no other."""

import base64
import dataclasses
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from petseg.evaluation.counting import FULL_SIZE, MODEL_SIZE, SIZES
from petseg.evaluation.titles import (
    NOT_IN_TRUTH,
    PRESENCE_TITLES,
    has_presence,
    metric_titles,
    postprocessing_text,
    several,
)
from petseg.image_size import readable
from petseg.metrics.presence import THRESHOLD, Curve
from petseg.version import __version__
from petseg.visualization import charts

_JPEG_QUALITY = 88
_MOST_CURVES = 12
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1600px; margin: 2em auto; padding: 0 1em;
       color: #222 }
h1 { font-size: 1.5em; margin-bottom: .2em } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse; margin: .6em 0 } td, th { padding: .2em .8em; text-align: right }
td:first-child, th:first-child { text-align: left } tr + tr { border-top: 1px solid #ddd }
th { font-weight: 600 } .big { font-size: 2.2em; font-weight: 600 } .note { color: #666 }
p { max-width: 75em } img, svg { max-width: 100%; height: auto }
.row { display: flex; flex-wrap: wrap; gap: 2em }
pre { background: #f6f6f6; padding: 1em; overflow: auto; font-size: 12px }
"""


@dataclasses.dataclass(frozen=True)
class ReportContent:
    """What the page shows.

    Attributes:
      figures: from evaluate_split.evaluate_split.
      run_dir: the run.
      data_dir: the data set.
      settings: settings of the run, as text.
      by_step: figures of the evaluations during training, by step.
      image_mean_ious: mean IoU of every image; NaN where no pixel counts.
      worst: panel of the worst images, uint8 [height, width, 3].
      best: panel of the best images, uint8 [height, width, 3].
      presence_curves: by class, from metrics.presence.curves; {} without a presence head.
    """

    figures: Mapping
    run_dir: str
    data_dir: str
    settings: str
    by_step: Mapping[int, Mapping]
    image_mean_ious: Sequence[float]
    worst: np.ndarray
    best: np.ndarray
    presence_curves: Mapping[str, Curve] = dataclasses.field(default_factory=dict)


def html_page(content: ReportContent) -> str:
    """Formats everything about an evaluation as one self-contained page."""
    figures = content.figures
    title = f"{_text(content.run_dir)}: {_text(figures['split'])}"
    parts = [
        f"<h1>{title}</h1>",
        f"<p class=note>{_text(content.data_dir)}, split {_text(figures['split'])}: "
        f"{figures['images']:,} images, {figures['pixels']:,} pixels at "
        f"{readable(figures['image_size'])} px; step {figures['checkpoint_step']}; label map "
        f"{_text(figures['label_map'])}; {_tta(figures['views'])}</p>",
        f"<p class=note>{_text(postprocessing_text(figures['postprocessing']))}</p>",
        f"<p><span class=big>{_number(figures['mean_iou'])}</span> mean IoU at the model's size, "
        f"{_number(figures[FULL_SIZE]['mean_iou'])} at the images' full size</p>",
        "<h2>Classes</h2>",
        _classes(figures),
        _presence(figures, content.presence_curves),
        "<h2>Means</h2>",
        _means(figures),
        "<h2>Near the border</h2><p class=note>Mean IoU of the pixels that have another class, or "
        "ignored pixels, within so many rows and columns.</p>",
        _bands(figures),
        "<div class=row>",
        f"<div><h2>Confusion</h2>{_confusion(figures)}</div>",
        f"<div><h2>Images</h2>{_histogram(content.image_mean_ious)}</div>",
        f"<div><h2>During training</h2>{_curves(content.by_step)}</div>",
        "</div>",
        _label_maps(figures["label_maps"]),
        *(_groups(*kind) for kind in several(figures["groups"]).items()),
        "<h2>The worst images</h2>",
        _picture(content.worst, "image, truth, prediction and errors of the worst images"),
        "<h2>The best images</h2>",
        _picture(content.best, "image, truth, prediction and errors of the best images"),
        f"<h2>Settings</h2><pre>{_text(content.settings)}</pre>",
        f"<p class=note>petseg {__version__}</p>",
    ]
    head = f"<meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
    return f"<!doctype html>\n<html lang=en>\n{head}\n" + "\n".join(parts) + "\n</html>\n"


def _classes(figures: Mapping) -> str:
    titles = {
        **metric_titles(per_class=True),
        "boundary_iou": "boundary IoU",
        "image_iou": "IoU, mean of images",
    }
    rows = [[name, *(figures[key][name] for key in titles)] for name in figures["iou"]]
    absent = ", ".join(figures["absent_classes"])
    note = f"<p class=note>Absent, and left out of the means: {_text(absent)}</p>" if absent else ""
    if lacking := figures[FULL_SIZE]["not_in_truth"]:
        note += f"<p class=note>{NOT_IN_TRUTH}: {_text(', '.join(lacking))}</p>"
    return _table(["class", *titles.values()], rows) + note


def _presence(figures: Mapping, curves: Mapping[str, Curve]) -> str:
    """What the presence head says of images; '' for a model without one."""
    if not has_presence(figures):
        return ""
    rows = [
        [name, *("-" if (v := figures[key][name]) is None else v for key in PRESENCE_TITLES)]
        for name in figures["iou"]
    ]
    shown = dict(list(curves.items())[:_MOST_CURVES])
    thresholds = {name: figures[THRESHOLD][name] for name in shown}
    left_out = "" if len(shown) == len(curves) else f" The first {_MOST_CURVES} classes are drawn."
    parts = [
        "<h2>Is a class in the image?</h2>",
        "<p class=note>By the presence head, on whole images at the model's size. Below its "
        "threshold a class is left out of the prediction; 0 leaves nothing out. Thresholds were "
        "chosen on the validation split during training: judge them on another split. Prevalence "
        f"is the share of images that hold the class.{left_out}</p>",
        _table(["class", *PRESENCE_TITLES.values()], rows),
        charts.to_svg(charts.precision_recall(shown, thresholds)) if shown else "",
    ]
    return "".join(parts)


def _means(figures: Mapping) -> str:
    titles = {
        **metric_titles(per_class=False),
        "mean_boundary_iou": "mean boundary IoU",
    }
    rows = [[title, figures[key], figures[FULL_SIZE][key]] for key, title in titles.items()]
    return _table(["", f"at {readable(figures['image_size'])} px", "full size"], rows)


def _bands(figures: Mapping) -> str:
    full = figures[FULL_SIZE]["band_mean_iou"]
    rows = [[f"{px} px", iou, full[px]] for px, iou in figures["band_mean_iou"].items()]
    return _table(["", f"at {readable(figures['image_size'])} px", "full size"], rows)


def _confusion(figures: Mapping) -> str:
    names = list(figures["iou"])
    return charts.to_svg(charts.confusion_matrix(np.array(figures["confusion"]), names))


def _histogram(values: Sequence[float]) -> str:
    counted = np.array([value for value in values if not np.isnan(value)])
    if not counted.size:
        return "<p>No pixel was counted.</p>"
    return charts.to_svg(charts.histogram(counted, "mean IoU of an image"))


def _curves(by_step: Mapping[int, Mapping]) -> str:
    if not by_step:
        return "<p>The run has no evaluation.</p>"
    steps = sorted(by_step)
    lines = {"mean": {step: by_step[step]["mean_iou"] for step in steps}}
    for name in list(by_step[steps[0]]["iou"])[:8]:
        lines[name] = {step: by_step[step]["iou"][name] for step in steps}
    return charts.to_svg(charts.curves(lines, "step", "validation IoU"))


def _label_maps(maps: Mapping[str, Mapping]) -> str:
    if not maps:
        return ""
    rows = []
    for name, by_size in maps.items():
        rows.append([name, "mean", *_at_both_sizes(by_size, "mean_iou", "image_mean_iou")])
        for class_name in by_size[MODEL_SIZE]["iou"]:
            rows.append(["", class_name, *_at_both_sizes(by_size, "iou", "image_iou", class_name)])
    return (
        "<h2>The same predictions by other label maps</h2><p class=note>A class's probability is "
        "the sum of those of the model's classes that belong to it.</p>"
        + _table(
            ["label map", "IoU", "model's size", "mean of images", "full size", "mean of images"],
            rows,
        )
    )


def _at_both_sizes(
    by_size: Mapping, key: str, image_key: str, class_name: str | None = None
) -> list[float | None]:
    """A figure of the split and its mean over images, at both sizes."""
    values = (by_size[size][name] for size in SIZES for name in (key, image_key))
    return [value[class_name] if class_name else value for value in values]


def _groups(kind: str, groups: Mapping[str, Mapping]) -> str:
    ranked = sorted(groups.items(), key=lambda item: item[1]["mean_iou"] or 0)
    names = list(ranked[0][1]["iou"])
    rows = [
        [name, f"{group['images']:,}", group["mean_iou"], *group["iou"].values()]
        for name, group in ranked
    ]
    return f"<h2>By {_text(kind)}</h2>" + _table([kind, "images", "mean IoU", *names], rows)


def _tta(views: Mapping) -> str:
    parts = [f"scales {', '.join(map(str, views['scales']))}"]
    parts += ["mirror images"] if views["flip"] else []
    parts += ["sliding windows"] if views["sliding_windows"] else []
    return "predicted at " + ", ".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence]) -> str:
    lines = [f"<tr>{''.join(f'<th>{_text(cell)}</th>' for cell in head)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def _cell(value: object) -> str:
    return _text(value) if isinstance(value, str) else _number(value)


def _number(value: float | None) -> str:
    return "absent" if value is None else f"{value:.4f}"


def _picture(pixels: np.ndarray, what: str) -> str:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=_JPEG_QUALITY)
    encoded = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="{_text(what)}" src="data:image/jpeg;base64,{encoded}">'


def _text(value: object) -> str:
    return html.escape(str(value))
