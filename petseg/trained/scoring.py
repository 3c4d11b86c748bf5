"""One pass over a split with a run's model: figures, JSON and a panel."""

import json
import math

import tensorflow as tf
from PIL import Image

from petseg import inference, manifest, pictures
from petseg.errors import FaultFound
from petseg.input_pipeline import batches
from petseg.input_pipeline.raw_values import raw_values
from petseg.label_map import LabelMap
from petseg.modeling import metrics
from petseg.training import workdir


def score_split(
    run_dir: str,
    split_name: str,
    data_dir: str | None,
    panel_images: int,
    checkpoint: str = "newest",
) -> dict:
    """Scores a split at the model's size; writes RUN/evaluation/SPLIT.json and a panel.

    Args:
      run_dir: the run.
      split_name: which split.
      data_dir: the data set, or None for the one that the run was trained on.
      panel_images: rows of the panel.
      checkpoint: 'newest', 'best' or a step.

    Returns:
      The figures as written: split, images, pixels, image_size, label_map, mean_iou
      (None if nothing was counted), iou and dice by class (None where absent),
      absent_classes, pixel_accuracy, checkpoint_step, panel (a path).

    Raises:
      UserError: the run, the data set or the split is not there or does not fit.
      FaultFound: a shard differs from its manifest.
    """
    trained = workdir.load_trained(run_dir, checkpoint)
    config, label_map = trained.config.data, trained.label_map
    data_dir = data_dir or config.dir
    split = manifest.read_manifest(data_dir).split(split_name, data_dir)
    if faults := manifest.check_shards(data_dir, [split], hashes=True):
        raise FaultFound(f"{faults[0]}; convert the data set again")
    label_map.check_covers(raw_values(data_dir, split), data_dir)
    dataset = batches.make_for_eval(
        manifest.shard_paths(data_dir, split),
        class_ids=label_map.class_ids(),
        image_size=config.image_size,
        batch_size=config.batch_size,
        keep_aspect=config.keep_aspect,
    )
    counted = inference.evaluate(
        inference.make_eval_step(
            trained.model, label_map.num_classes, tf.distribute.get_strategy()
        ),
        dataset,
        -(-split.records // config.batch_size),
    )
    # TODO
    folder = workdir.evaluation_folder(run_dir)
    panel_path = folder / f"{split_name}_panel.png"
    Image.fromarray(pictures.panel(*sample, label_map.names)).save(panel_path)
    report = {
        "split": split_name,
        "images": counted.images,
        **_figures(metrics.score(counted.confusion), label_map),
        "image_size": config.image_size,
        "checkpoint_step": trained.step,
        "panel": str(panel_path),
    }
    workdir.write_text(folder / f"{split_name}.json", json.dumps(report, indent=1) + "\n")
    return report


def table(report: dict) -> str:
    """The figures of `score_split` as people read them."""
    lines = [f"{'class':<14}{'IoU':>9}{'Dice':>9}"]
    for name, iou in report["iou"].items():
        dice = report["dice"][name]
        lines.append(
            f"{name:<14}{'absent':>9}" if iou is None else f"{name:<14}{iou:>9.4f}{dice:>9.4f}"
        )
    for name in ("mean_iou", "pixel_accuracy"):
        value = report[name]
        shown = "none" if value is None else f"{value:.4f}"
        lines.append(f"{name.replace('_', ' ').replace('iou', 'IoU'):<14}{shown:>9}")
    lines.append(
        f"{report['pixels']:,} pixels of {report['images']:,} images, split {report['split']}, "
        f"at {report['image_size']} px, step {report['checkpoint_step']}; "
        f"panel: {report['panel']}"
    )
    return "\n".join(lines)


def _figures(scores: metrics.Scores, label_map: LabelMap) -> dict:
    return {
        "pixels": scores.pixels,
        "label_map": label_map.spec(),
        "mean_iou": _none_if_nan(scores.mean_iou),
        "iou": metrics.by_name(scores.iou, label_map.names),
        "dice": metrics.by_name(scores.dice, label_map.names),
        "absent_classes": [label_map.names[i] for i in scores.absent],
        "pixel_accuracy": _none_if_nan(scores.pixel_accuracy),
    }


def _none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value
