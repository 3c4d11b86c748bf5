"""A run judged on one split: figures, JSON, a table, a panel and a page."""

import collections
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image
from tqdm import tqdm

from petseg import config as config_lib
from petseg.data import manifest
from petseg.data.label_map import UNKNOWN, LabelMap, parse_label_map
from petseg.data.manifest import Manifest
from petseg.errors import FaultFound, UserError
from petseg.evaluation import counting, report
from petseg.evaluation.counting import MODEL_SIZE, OWN_SIZE, SIZES, Counts, ImageFigures, Tally
from petseg.inference import forward
from petseg.inference.forward import Views
from petseg.input_pipeline import pipeline
from petseg.input_pipeline.pipeline import Original
from petseg.input_pipeline.raw_values import raw_values
from petseg.metrics import boundaries, pixel_counts
from petseg.registry import LABEL_MAPS
from petseg.run_dir import run_folder
from petseg.run_dir.run_folder import TrainedModel
from petseg.visualization import pictures

_OWN = "own"
_RANKED = (_OWN, MODEL_SIZE)  # the worst and the best images are those by these figures
_CELL_PX = 192
_PETS = "oxford_iiit_pet"


def score_split(
    run_dir: str,
    split_name: str,
    data_dir: str | None,
    panel_images: int,
    checkpoint: str,
    views: Views,
) -> dict:
    """Scores a split in one pass; writes RUN/evaluation/SPLIT.json, a page and a panel.

    Args:
      run_dir: the run.
      split_name: which split.
      data_dir: the data set, or None for the one that the run was trained on.
      panel_images: rows of the panel, and how many of the best and of the worst images the
        page shows.
      checkpoint: 'newest', 'best' or a step.
      views: how each image is looked at.

    Returns:
      What is written as JSON. At the model's size and by the run's label map: pixels,
      mean_iou (None if nothing was counted), iou, dice, precision and recall by class (None
      where absent), absent_classes, pixel_accuracy, frequency_weighted_iou, image_mean_iou
      and image_iou (means over images), boundary_iou, mean_boundary_iou, band_mean_iou by
      radius in px, confusion. The same at the images' own size: own_size. By the pets' other
      label maps where the model's classes allow it: label_maps. By kinds of images: groups.
      worst and best: names and mean IoU. Besides: split, images, image_size, label_map,
      checkpoint_step, views, panel and report (paths).

    Raises:
      UserError: the run, the data set or the split is not there or does not fit.
      FaultFound: a shard differs from its manifest.
    """
    trained = run_folder.load_trained(run_dir, checkpoint)
    config = trained.config.data
    data_dir = data_dir or config.dir
    finished = manifest.read_manifest(data_dir)
    split = finished.split(split_name, data_dir)
    if faults := manifest.check_shards(data_dir, [split], hashes=True):
        raise FaultFound(f"{faults[0]}; convert the data set again")
    values = raw_values(data_dir, split)
    _check_meaning(trained, finished, values, data_dir)
    readings = _readings(trained, finished, values)
    see = forward.make_see(
        trained.at_size, config.image_size, config.keep_aspect, config.batch_size, views
    )
    probabilities = forward.make_probabilities(views, trained.label_map.num_classes)
    paths = manifest.shard_paths(data_dir, split)
    tally = counting.count_split(
        _with_bar(pipeline.read_originals(paths), split.records),
        see,
        probabilities,
        readings,
        lambda original: _groups_of(original, finished),
        image_size=config.image_size,
        keep_aspect=config.keep_aspect,
    )

    def draw(places: Sequence[int]) -> np.ndarray:
        found = _segment(list(pipeline.read_originals(paths, places)), see, probabilities)
        return _panel([found[place] for place in places], tally, trained)

    folder = run_folder.evaluation_folder(run_dir)
    drawn = draw(range(min(panel_images, split.records)))
    Image.fromarray(drawn).save(folder / f"{split_name}_panel.png")
    worst = _by_score(tally.images)
    found = {
        "split": split_name,
        **_all_figures(tally, readings, trained.label_map, panel_images),
        "image_size": config.image_size,
        "views": {**dataclasses.asdict(views), "scales": list(views.scales)},
        "checkpoint_step": trained.step,
        "panel": str(folder / f"{split_name}_panel.png"),
        "report": str(folder / f"{split_name}_report.html"),
    }
    page = report.html_page(
        found,
        run=run_dir,
        data=data_dir,
        settings=config_lib.to_json(trained.config),
        by_step=run_folder.read_evaluations(run_dir),
        image_mean_ious=[image.mean_iou[_RANKED] for image in tally.images],
        worst=draw([image.place for image in worst[:panel_images]]),
        best=draw([image.place for image in worst[::-1][:panel_images]]),
    )
    run_folder.write_text(folder / f"{split_name}_report.html", page)
    run_folder.write_text(folder / f"{split_name}.json", json.dumps(found, indent=1) + "\n")
    return found


def table(found: Mapping) -> str:
    """The figures of `score_split` as people read them."""
    lines = [f"{'class':<14}{'IoU':>9}{'Dice':>9}{'precision':>11}{'recall':>9}{'boundary':>10}"]
    for name, iou in found["iou"].items():
        row = f"{name:<14}{_shown(iou):>9}"
        if iou is not None:
            values = (found[key][name] for key in ("dice", "precision", "recall", "boundary_iou"))
            row += "".join(f"{_shown(v):>{w}}" for v, w in zip(values, (9, 11, 9, 10), strict=True))
        lines.append(row)
    means = (
        *(("mean IoU", "mean_iou"), ("pixel accuracy", "pixel_accuracy")),
        *(("frequency-weighted IoU", "frequency_weighted_iou"),),
        *(("mean IoU of an image", "image_mean_iou"), ("mean boundary IoU", "mean_boundary_iou")),
    )
    size = f"at {found['image_size']} px"
    lines += ["", f"{'':<26}{size:>12}{'own size':>12}"]
    for title, key in means:
        own = found[OWN_SIZE][key]
        lines.append(f"{title:<26}{_shown(found[key]):>12}{_shown(own):>12}")
    for radius, iou in found["band_mean_iou"].items():
        own = found[OWN_SIZE]["band_mean_iou"][radius]
        title = f"mean IoU, {radius} px to border"
        lines.append(f"{title:<26}{_shown(iou):>12}{_shown(own):>12}")
    for name, sizes in found["label_maps"].items():
        ious = (sizes[size]["mean_iou"] for size in SIZES)
        lines.append(f"{name:<26}" + "".join(f"{_shown(iou):>12}" for iou in ious))
        for of_class in sizes[MODEL_SIZE]["iou"]:
            ious = (sizes[size]["iou"][of_class] for size in SIZES)
            lines.append(f"  {of_class:<24}" + "".join(f"{_shown(iou):>12}" for iou in ious))
    for kind, groups in found["groups"].items():
        ranked = sorted(groups.items(), key=lambda item: item[1]["mean_iou"] or 0)
        told = [f"{name} {_shown(of['mean_iou'])}" for name, of in ranked]
        told = told if len(told) < 6 else [*told[:4], "...", told[-1]]
        lines.append(f"{kind}, from the worst: {', '.join(told)}")
    lines += [
        f"{found['pixels']:,} pixels of {found['images']:,} images, split {found['split']}, "
        f"{size}, step {found['checkpoint_step']}",
        f"panel: {found['panel']}",
        f"page: {found['report']}",
    ]
    return "\n".join(lines)


def _check_meaning(
    trained: TrainedModel, finished: Manifest, values: set[int], data_dir: str
) -> None:
    """Refuses a data set whose masks hold, or mean, something else."""
    trained.label_map.check_covers(values, data_dir)
    for value, name in finished.raw_labels.items():
        before = trained.raw_labels.get(value, name)
        if name != before:
            raise UserError(
                f"{data_dir}: mask value {value} is '{name}' there, but '{before}' in the data "
                "set that the run was trained on"
            )


def _readings(
    trained: TrainedModel, finished: Manifest, values: set[int]
) -> dict[str, counting.Reading]:
    """The run's own label map first, then the pets' where they can be read."""
    readings = {_OWN: counting.make_reading(trained.label_map, trained.label_map)}
    if finished.source.get("source") != _PETS and set(finished.raw_labels.values()) != {
        *("pet", "background", "border")
    }:
        return readings
    for name, spec in LABEL_MAPS.items():
        label_map = parse_label_map(spec)
        reading = counting.make_reading(trained.label_map, label_map)
        table = label_map.class_ids()
        if reading and all(table[value] != UNKNOWN for value in values):
            readings[name] = reading
    return readings


def _with_bar(originals: Iterator[Original], total: int) -> Iterator[Original]:
    return tqdm(originals, "evaluate", total, unit="image", disable=not sys.stderr.isatty())


def _groups_of(original: Original, finished: Manifest) -> dict[str, str]:
    groups = {}
    if finished.source.get("source") == _PETS:
        # The data set's own convention: names of cats begin with a capital.
        groups["species"] = "cat" if original.filename[:1].isupper() else "dog"
    if original.image_class:
        is_pets = finished.source.get("source") == _PETS
        groups["breed" if is_pets else "image class"] = original.image_class
    return groups


def _segment(
    originals: Sequence[Original], see: forward.See, probabilities: Callable[..., tf.Tensor]
) -> dict[int, tuple[Original, np.ndarray]]:
    """Some examples by place, with their predictions at their own size."""
    found = {}
    views = see(original.image for original in originals)
    for original, seen in zip(originals, views, strict=True):
        shares = probabilities(seen, *np.int32(original.mask.shape)).numpy()
        found[original.place] = (original, shares.argmax(-1).astype(np.uint8))
    return found


def _panel(
    found: Sequence[tuple[Original, np.ndarray]], tally: Tally, trained: TrainedModel
) -> np.ndarray:
    table = trained.label_map.class_ids()
    scores = {image.place: image.mean_iou[_RANKED] for image in tally.images}
    return pictures.panel(
        [original.image for original, _ in found],
        [table[original.mask] for original, _ in found],
        [predicted for _, predicted in found],
        trained.label_map.names,
        trained.table,
        [f"{original.name}  {scores[original.place]:.3f}" for original, _ in found],
        cell_px=_CELL_PX,
    )


def _by_score(images: Sequence[ImageFigures]) -> list[ImageFigures]:
    """From the worst to the best; those without a counted pixel are left out."""
    counted = [image for image in images if not math.isnan(image.mean_iou[_RANKED])]
    return sorted(counted, key=lambda image: image.mean_iou[_RANKED])


def _all_figures(
    tally: Tally, readings: Mapping[str, counting.Reading], label_map: LabelMap, ranked: int
) -> dict:
    """Every figure of a split; `ranked`: how many of the worst and best images are named."""
    names, worst = label_map.names, _by_score(tally.images)
    by_size = {
        size: {
            **_figures(tally.counts[_OWN, size], names),
            **_image_figures(tally.images, (_OWN, size), names),
        }
        for size in SIZES
    }
    return {
        "images": len(tally.images),
        "label_map": label_map.spec(),
        **by_size[MODEL_SIZE],
        OWN_SIZE: by_size[OWN_SIZE],
        "label_maps": _other_label_maps(tally, readings),
        "groups": _group_figures(tally, names),
        "worst": [_named_score(image) for image in worst[:ranked]],
        "best": [_named_score(image) for image in worst[::-1][:ranked]],
    }


def _named_score(image: ImageFigures) -> dict[str, str | float]:
    return {"name": image.name, "mean_iou": image.mean_iou[_RANKED]}


def _figures(counts: Counts, names: Sequence[str]) -> dict:
    scores = pixel_counts.score(counts.confusion)
    found = {
        "pixels": scores.pixels,
        "mean_iou": _none_if_nan(scores.mean_iou),
        **{
            key: pixel_counts.by_name(getattr(scores, key), names)
            for key in ("iou", "dice", "precision", "recall")
        },
        "absent_classes": [names[i] for i in scores.absent],
        "pixel_accuracy": _none_if_nan(scores.pixel_accuracy),
        "frequency_weighted_iou": _none_if_nan(scores.frequency_weighted_iou),
        "confusion": counts.confusion.tolist(),
    }
    if counts.boundary is not None:
        ious = boundaries.boundary_iou(counts.boundary)
        found["boundary_iou"] = pixel_counts.by_name(ious, names)
        found["mean_boundary_iou"] = _mean(ious)
        found["band_mean_iou"] = {
            str(radius): _none_if_nan(pixel_counts.score(band).mean_iou)
            for radius, band in zip(counting.BAND_RADII_PX, counts.bands, strict=True)
        }
    return found


def _image_figures(
    images: Sequence[ImageFigures], key: tuple[str, str], names: Sequence[str]
) -> dict:
    """Means over images; a class over those images that hold it, or a prediction of it."""
    ious = np.stack([image.iou[key] for image in images])
    return {
        "image_mean_iou": _mean(np.array([image.mean_iou[key] for image in images])),
        "image_iou": {name: _mean(ious[:, place]) for place, name in enumerate(names)},
    }


def _other_label_maps(tally: Tally, readings: Mapping[str, counting.Reading]) -> dict:
    found = {}
    for name, reading in readings.items():
        if name == _OWN:
            continue
        names = reading.label_map.names
        found[name] = {"label_map": reading.label_map.spec()}
        for size in SIZES:
            found[name][size] = {
                **_figures(tally.counts[name, size], names),
                **_image_figures(tally.images, (name, size), names),
            }
    return found


def _group_figures(tally: Tally, names: Sequence[str]) -> dict:
    found: dict = collections.defaultdict(dict)
    for kind, groups in tally.groups.items():
        for group, confusion in sorted(groups.items()):
            scores = pixel_counts.score(confusion)
            found[kind][group] = {
                "images": tally.group_images[kind][group],
                "mean_iou": _none_if_nan(scores.mean_iou),
                "iou": pixel_counts.by_name(scores.iou, names),
            }
    return dict(found)


def _mean(values: np.ndarray) -> float | None:
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else None


def _none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


def _shown(value: float | None) -> str:
    return "absent" if value is None else f"{value:.4f}"
