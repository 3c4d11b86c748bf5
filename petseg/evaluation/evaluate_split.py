"""Evaluates a run on one split: figures as JSON, a panel of pictures and a page."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from petseg import config_json, device_memory
from petseg.data import image_classes, manifest, shard_hashes
from petseg.data.manifest import Manifest
from petseg.errors import FaultFound, UserError
from petseg.evaluation import counting, label_map_views, report
from petseg.evaluation.counting import ImageScores
from petseg.evaluation.figures import RANKED_BY, rank_images, split_figures
from petseg.evaluation.presence import judge_presence
from petseg.evaluation.report import ReportContent
from petseg.image_size import as_json
from petseg.inference.postprocessing import PostprocessingOptions
from petseg.inference.predictor import Predictor, make_predictor
from petseg.inference.tta import TtaOptions
from petseg.input_pipeline import stored_examples
from petseg.input_pipeline.raw_values import raw_values
from petseg.input_pipeline.stored_examples import Original
from petseg.metrics.presence import curves, presence_figures
from petseg.progress import Progress
from petseg.run_dir import evaluations, trained_model
from petseg.run_dir.trained_model import TrainedModel
from petseg.visualization import pictures

_CELL_PX = 192


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """What is evaluated, and how.

    Attributes:
      split: name of the split.
      data_dir: the data set; None for the one that the run was trained on.
      checkpoint: 'newest', 'best' or a step.
      tta: test-time augmentation.
      postprocessing: what is done to predictions at the images' full size.
      panel_images: number of rows of the panel, and of worst and of best images on the page.
    """

    split: str = "validation"
    data_dir: str | None = None
    checkpoint: str = "newest"
    tta: TtaOptions = dataclasses.field(default_factory=TtaOptions)
    postprocessing: PostprocessingOptions = dataclasses.field(default_factory=PostprocessingOptions)
    panel_images: int = 8


def evaluate_split(run_dir: str, options: EvaluateOptions) -> dict:
    """Evaluates a split in one pass; writes RUN/evaluation/SPLIT.json, a page and a panel.

    Returns:
      The content of the JSON file. At the model's size and by the run's label map: pixels;
      every registered metric, such as mean_iou (None if nothing was counted) and iou by class
      (None where it is absent); absent_classes (neither in truth nor predicted), not_in_truth and
      never_predicted (classes that truth has); image_iou (a mean over images),
      boundary_iou, mean_boundary_iou, band_mean_iou by radius in px, confusion. The same at the
      images' full size: own_size. By other label maps that apply to the data set: label_maps. By
      groups of images: groups. worst and best: names and mean IoU. Also split, images,
      image_size, label_map, checkpoint_step, views (test-time augmentation), postprocessing (of
      own_size alone), panel and report (paths). With a presence head, by class: presence_auc,
      presence_precision, presence_recall, presence_threshold (chosen on the validation split
      while the run was trained), presence_prevalence.

    Raises:
      UserError: the run, the data set or the split does not exist or does not fit.
      FaultFound: a shard differs from its manifest.
    """
    trained = trained_model.load_trained_model(run_dir, options.checkpoint)
    config = trained.config.data
    data_dir = options.data_dir or config.dir
    data = manifest.read_manifest(data_dir)
    split = data.split(options.split, data_dir)
    if faults := shard_hashes.check_shards(data_dir, [split], hashes=True):
        raise FaultFound(f"{faults[0]}; convert the data set again")
    values = raw_values(data_dir, split)
    check_meaning(trained, data, values, data_dir)
    views = label_map_views.list_views(trained.label_map, data.raw_labels, values)
    predictor = make_predictor(trained, options.tta, config.batch_size, options.postprocessing)
    paths = manifest.shard_paths(data_dir, split)
    source = str(data.source.get("source", ""))
    elsewhere = "end other programs on it, or use the CPU: CUDA_VISIBLE_DEVICES= petseg-evaluate"
    with device_memory.exhaustion_in_one_line(elsewhere):
        counts = counting.count_split(
            _with_progress(stored_examples.read_originals(paths), split.records),
            predictor,
            views,
            _groups_of(trained, source),
        )

    def draw(indices: Sequence[int]) -> np.ndarray:
        originals = {one.index: one for one in stored_examples.read_originals(paths, indices)}
        return _draw_panel([originals[i] for i in indices], predictor, counts.images, trained)

    folder = evaluations.evaluation_folder(run_dir)
    panel_path = folder / f"{options.split}_panel.png"
    report_path = folder / f"{options.split}_report.html"
    presence, of_presence = None, {}
    if trained.model.presence:
        with device_memory.exhaustion_in_one_line(elsewhere):
            originals = stored_examples.read_originals(paths)
            presence = judge_presence(originals, counts.images, trained)
        of_presence = presence_figures(presence, np.array(trained.model.thresholds))
    panel = draw(range(min(options.panel_images, split.records)))
    Image.fromarray(panel).save(panel_path)
    worst = [image.index for image in rank_images(counts.images)]
    figures = {
        "split": options.split,
        **split_figures(counts, views, options.panel_images),
        **of_presence,
        "image_size": as_json(config.image_size),
        "views": {**dataclasses.asdict(options.tta), "scales": list(options.tta.scales)},
        "postprocessing": dataclasses.asdict(options.postprocessing),
        "checkpoint_step": trained.step,
        "panel": str(panel_path),
        "report": str(report_path),
    }
    content = ReportContent(
        figures=figures,
        run_dir=run_dir,
        data_dir=data_dir,
        settings=config_json.to_json(trained.config),
        by_step=evaluations.read_evaluations(run_dir),
        image_mean_ious=[image.mean_iou[RANKED_BY] for image in counts.images],
        worst=draw(worst[: options.panel_images]),
        best=draw(worst[::-1][: options.panel_images]),
        presence_curves=curves(presence) if presence else {},
    )
    evaluations.write_text(report_path, report.html_page(content))
    json_path = folder / f"{options.split}.json"
    evaluations.write_text(json_path, json.dumps(figures, indent=1) + "\n")
    return figures


def _groups_of(trained: TrainedModel, source: str) -> Callable[[Original], dict[str, str]]:
    """What gives the groups of an image; one is whether its class was trained with masks."""
    data, has_mask = trained.config.data, {}
    if data.masks_of:
        chosen = image_classes.choose_classes(data.masks_of, data.image_classes, source)
        has_mask = dict(zip(data.image_classes, chosen, strict=True))

    def groups_of(original: Original) -> dict[str, str]:
        groups = image_classes.groups_of(original.filename, original.image_class, source)
        if (is_with := has_mask.get(original.image_class)) is None:
            return groups
        return {**groups, "trained": "with masks" if is_with else "without masks"}

    return groups_of


def check_meaning(trained: TrainedModel, data: Manifest, values: set[int], data_dir: str) -> None:
    """Refuses a data set whose masks have other values, or other meanings of them.

    Raises:
      UserError: Says which value.
    """
    trained.label_map.check_covers(values, data_dir)
    for value, name in data.raw_labels.items():
        expected = trained.raw_labels.get(value, name)
        if name != expected:
            raise UserError(
                f"{data_dir}: mask value {value} is '{name}' there, but '{expected}' in the data "
                "set that the run was trained on"
            )


def _with_progress(originals: Iterator[Original], total: int) -> Iterator[Original]:
    with Progress(0, total, title="evaluate", unit="image") as progress:
        for original in originals:
            yield original
            progress.advance()


def _draw_panel(
    originals: Sequence[Original],
    predictor: Predictor,
    images: Sequence[ImageScores],
    trained: TrainedModel,
) -> np.ndarray:
    """Draws some examples with their predictions: uint8 [height, width, 3]."""
    class_ids = trained.label_map.class_ids()
    mean_ious = {image.index: image.mean_iou[RANKED_BY] for image in images}
    predictions = predictor.predict_each(original.image for original in originals)
    return pictures.panel(
        [original.image for original in originals],
        [class_ids[original.mask] for original in originals],
        [prediction.class_ids for prediction in predictions],
        trained.label_map.names,
        trained.palette,
        [pictures.caption(original.name, mean_ious[original.index]) for original in originals],
        cell_px=_CELL_PX,
    )
