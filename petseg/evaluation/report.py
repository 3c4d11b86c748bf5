"""The page of an evaluation: one HTML file that needs no other."""

import base64
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from petseg.evaluation.counting import MODEL_SIZE, OWN_SIZE, SIZES
from petseg.version import __version__
from petseg.visualization import charts

_JPEG_QUALITY = 88
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1180px; margin: 2em auto; padding: 0 1em;
       color: #222 }
h1 { font-size: 1.5em; margin-bottom: .2em } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse; margin: .6em 0 } td, th { padding: .2em .8em; text-align: right }
td:first-child, th:first-child { text-align: left } tr + tr { border-top: 1px solid #ddd }
th { font-weight: 600 } .big { font-size: 2.2em; font-weight: 600 } .note { color: #666 }
img, svg { max-width: 100%; height: auto } .row { display: flex; flex-wrap: wrap; gap: 2em }
pre { background: #f6f6f6; padding: 1em; overflow: auto; font-size: 12px }
"""


def html_page(
    found: Mapping,
    *,
    run: str,
    data: str,
    settings: str,
    by_step: Mapping[int, Mapping],
    image_mean_ious: Sequence[float],
    worst: np.ndarray,
    best: np.ndarray,
) -> str:
    """Everything that an evaluation found, as one self-contained page.

    Args:
      found: of scoring.score_split.
      run: the run's folder.
      data: the data set's.
      settings: of the run, as text.
      by_step: figures of the evaluations while it was trained.
      image_mean_ious: of every image; NaN where no pixel counted.
      worst: a panel of the worst images, uint8 [height, width, 3].
      best: the same of the best ones.
    """
    title = f"{_text(run)}: {_text(found['split'])}"
    own = found[OWN_SIZE]
    parts = [
        f"<h1>{title}</h1>",
        f"<p class=note>{_text(data)}, split {_text(found['split'])}: {found['images']:,} images, "
        f"{found['pixels']:,} pixels at {found['image_size']} px; step {found['checkpoint_step']};"
        f" label map {_text(found['label_map'])}; {_views(found['views'])}</p>",
        f"<p><span class=big>{_number(found['mean_iou'])}</span> mean IoU at the model's size, "
        f"{_number(own['mean_iou'])} at the images' own size</p>",
        "<h2>Classes</h2>",
        _classes(found),
        "<h2>Means</h2>",
        _means(found),
        "<h2>Near the border</h2><p class=note>Mean IoU of the pixels that have another class, or "
        "ignored pixels, within so many pixels, in rows and columns.</p>",
        _bands(found),
        "<div class=row>",
        f"<div><h2>Confusion</h2>{_confusion(found)}</div>",
        f"<div><h2>Images</h2>{_histogram(image_mean_ious)}</div>",
        f"<div><h2>While it was trained</h2>{_curves(by_step)}</div>",
        "</div>",
        _label_maps(found["label_maps"]),
        *(_groups(kind, groups) for kind, groups in found["groups"].items()),
        "<h2>The worst images</h2>",
        _picture(worst, "image, truth, prediction and errors of the worst images"),
        "<h2>The best images</h2>",
        _picture(best, "image, truth, prediction and errors of the best images"),
        f"<h2>Settings</h2><pre>{_text(settings)}</pre>",
        f"<p class=note>petseg {__version__}</p>",
    ]
    head = f"<meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
    return f"<!doctype html>\n<html lang=en>\n{head}\n" + "\n".join(parts) + "\n</html>\n"


def _classes(found: Mapping) -> str:
    keys = ("iou", "dice", "precision", "recall", "boundary_iou", "image_iou")
    rows = [[name, *(found[key][name] for key in keys)] for name in found["iou"]]
    head = ["class", "IoU", "Dice", "precision", "recall", "boundary IoU", "IoU, mean of images"]
    absent = ", ".join(found["absent_classes"])
    note = f"<p class=note>Absent, and left out of the means: {_text(absent)}</p>" if absent else ""
    return _table(head, rows) + note


def _means(found: Mapping) -> str:
    titles = {
        "mean_iou": "mean IoU",
        "image_mean_iou": "mean IoU of an image, mean of images",
        "frequency_weighted_iou": "frequency-weighted IoU",
        "pixel_accuracy": "pixel accuracy",
        "mean_boundary_iou": "mean boundary IoU",
    }
    rows = [[title, found[key], found[OWN_SIZE][key]] for key, title in titles.items()]
    return _table(["", f"at {found['image_size']} px", "own size"], rows)


def _bands(found: Mapping) -> str:
    model, own = (of["band_mean_iou"] for of in (found, found[OWN_SIZE]))
    rows = [[f"{radius} px", iou, own[radius]] for radius, iou in model.items()]
    return _table(["", f"at {found['image_size']} px", "own size"], rows)


def _confusion(found: Mapping) -> str:
    names = list(found["iou"])
    return charts.to_svg(charts.confusion_matrix(np.array(found["confusion"]), names))


def _histogram(values: Sequence[float]) -> str:
    there = np.array([value for value in values if not np.isnan(value)])
    if not there.size:
        return "<p>No pixel was counted.</p>"
    return charts.to_svg(charts.histogram(there, "mean IoU of an image"))


def _curves(by_step: Mapping[int, Mapping]) -> str:
    if not by_step:
        return "<p>No evaluation is on record.</p>"
    steps = sorted(by_step)
    lines = {"mean": {step: by_step[step]["mean_iou"] for step in steps}}
    for name in list(by_step[steps[0]]["iou"])[:8]:
        lines[name] = {step: by_step[step]["iou"][name] for step in steps}
    return charts.to_svg(charts.curves(lines, "step", "validation IoU"))


def _label_maps(maps: Mapping[str, Mapping]) -> str:
    if not maps:
        return ""
    rows = []
    for name, of in maps.items():
        rows.append([name, "mean", *_both(of, "mean_iou", "image_mean_iou")])
        for of_class in of[MODEL_SIZE]["iou"]:
            rows.append(["", of_class, *_both(of, "iou", "image_iou", of_class)])
    return (
        "<h2>The same predictions by other label maps</h2><p class=note>A class's probability is "
        "the sum of those of the model's classes that belong to it.</p>"
        + _table(
            ["label map", "IoU", "model's size", "mean of images", "own size", "mean of images"],
            rows,
        )
    )


def _both(of: Mapping, key: str, image_key: str, of_class: str | None = None) -> list[float | None]:
    """A figure of the split and its mean over images, at both sizes."""
    values = (of[size][name] for size in SIZES for name in (key, image_key))
    return [value[of_class] if of_class else value for value in values]


def _groups(kind: str, groups: Mapping[str, Mapping]) -> str:
    ranked = sorted(groups.items(), key=lambda item: item[1]["mean_iou"] or 0)
    names = list(ranked[0][1]["iou"])
    rows = [[name, f"{of['images']:,}", of["mean_iou"], *of["iou"].values()] for name, of in ranked]
    return f"<h2>By {_text(kind)}</h2>" + _table([kind, "images", "mean IoU", *names], rows)


def _views(views: Mapping) -> str:
    told = [f"scales {', '.join(map(str, views['scales']))}"]
    told += ["mirror images"] if views["flip"] else []
    told += ["sliding windows"] if views["sliding_windows"] else []
    return "looked at: " + ", ".join(told)


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
