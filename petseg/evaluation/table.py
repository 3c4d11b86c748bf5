"""The figures of an evaluation as a table for a terminal."""

from collections.abc import Mapping, Sequence

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

_NAME_WIDTH, _VALUE_WIDTH = 26, 12
_MOST_GROUPS = 5


def format_table(figures: Mapping) -> str:
    """Formats what evaluate_split.evaluate_split gives."""
    size = f"at {readable(figures['image_size'])} px"
    return "\n".join(
        [
            *_class_lines(figures),
            *_lacking_lines(figures),
            *_presence_lines(figures),
            "",
            f"{'':<{_NAME_WIDTH}}" + _cells([size, "full size"]),
            *_mean_lines(figures),
            *_label_map_lines(figures["label_maps"]),
            *(_group_line(*kind) for kind in several(figures["groups"]).items()),
            f"{figures['pixels']:,} pixels of {figures['images']:,} images, split "
            f"{figures['split']}, {size}, step {figures['checkpoint_step']}",
            *filter(None, [postprocessing_text(figures["postprocessing"])]),
            f"panel: {figures['panel']}",
            f"page: {figures['report']}",
        ]
    )


def _class_lines(figures: Mapping) -> list[str]:
    titles = {**metric_titles(per_class=True), "boundary_iou": "boundary"}
    widths = [max(len(title) + 2, 9) for title in titles.values()]
    heads = zip(titles.values(), widths, strict=True)
    lines = [f"{'class':<14}" + "".join(f"{title:>{width}}" for title, width in heads)]
    for name, iou in figures["iou"].items():
        # Of an absent class the first column says enough.
        values = [figures[key][name] for key in titles] if iou is not None else [None]
        cells = zip(values, widths, strict=False)
        row = "".join(f"{_format(value):>{width}}" for value, width in cells)
        lines.append(f"{name:<14}{row}")
    return lines


def _lacking_lines(figures: Mapping) -> list[str]:
    """Returns a line that names the classes of which no image has a pixel."""
    lacking = figures[FULL_SIZE]["not_in_truth"]
    if not lacking:
        return []
    return [f"{NOT_IN_TRUTH}: {', '.join(lacking)}"]


def _presence_lines(figures: Mapping) -> list[str]:
    """Returns a table of what the presence head says of images, if the run has one."""
    if not has_presence(figures):
        return []
    widths = [max(len(title) + 2, 9) for title in PRESENCE_TITLES.values()]
    heads = zip(PRESENCE_TITLES.values(), widths, strict=True)
    lines = ["", f"{'in an image':<14}" + "".join(f"{title:>{width}}" for title, width in heads)]
    for name in figures["iou"]:
        cells = zip((figures[key][name] for key in PRESENCE_TITLES), widths, strict=True)
        row = "".join(f"{'-' if v is None else _format(v):>{width}}" for v, width in cells)
        lines.append(f"{name:<14}{row}")
    return lines


def _mean_lines(figures: Mapping) -> list[str]:
    titles = {
        **metric_titles(per_class=False),
        "mean_boundary_iou": "mean boundary IoU",
    }
    full = figures[FULL_SIZE]
    lines = [_line(title, [figures[key], full[key]]) for key, title in titles.items()]
    for radius_px, iou in figures["band_mean_iou"].items():
        title = f"mean IoU, {radius_px} px to border"
        lines.append(_line(title, [iou, full["band_mean_iou"][radius_px]]))
    return lines


def _label_map_lines(label_maps: Mapping[str, Mapping]) -> list[str]:
    lines = ["the same predictions, other label maps:"] if label_maps else []
    for name, by_size in label_maps.items():
        lines.append(_line(name, [by_size[size]["mean_iou"] for size in SIZES]))
        for class_name in by_size[MODEL_SIZE]["iou"]:
            ious = [by_size[size]["iou"][class_name] for size in SIZES]
            lines.append(_line(f"  {class_name}", ious))
    return lines


def _group_line(kind: str, groups: Mapping[str, Mapping]) -> str:
    ranked = sorted(groups.items(), key=lambda item: item[1]["mean_iou"] or 0)
    texts = [f"{name} {_format(group['mean_iou'])}" for name, group in ranked]
    if len(texts) > _MOST_GROUPS:
        texts = [*texts[: _MOST_GROUPS - 1], "...", texts[-1]]
    return f"{kind}, from the worst: {', '.join(texts)}"


def _line(title: str, values: Sequence[float | None]) -> str:
    return f"{title:<{_NAME_WIDTH}}" + _cells(map(_format, values))


def _cells(texts: Sequence[str]) -> str:
    return "".join(f"{text:>{_VALUE_WIDTH}}" for text in texts)


def _format(value: float | None) -> str:
    return "absent" if value is None else f"{value:.4f}"
