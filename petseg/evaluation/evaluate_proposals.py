"""Evaluates a run's proposals on one split: average recall of masks and of boxes."""

import dataclasses
import json
from collections.abc import Callable, Sequence

import numpy as np

from petseg import device_memory
from petseg.data import manifest, shard_hashes
from petseg.errors import FaultFound
from petseg.evaluation.evaluate_split import check_meaning
from petseg.input_pipeline import stored_examples
from petseg.input_pipeline.raw_values import raw_values
from petseg.metrics.average_recall import (
    COUNTS,
    IOU_THRESHOLDS,
    average_recall,
    count_found,
    mask_ious,
)
from petseg.metrics.measure import number_or_none
from petseg.progress import Progress
from petseg.proposals.proposer import Proposer, tight_box
from petseg.proposals.suppression import box_ious
from petseg.run_dir import evaluations, trained_model
from petseg.run_dir.trained_model import TrainedModel

_FOLDER = "proposals"  # in RUN/evaluation
_KINDS = ("mask", "box")


@dataclasses.dataclass(frozen=True)
class ProposalEvaluation:
    """What is evaluated.

    Attributes:
      split: Name of the split.
      data_dir: The data set; None for the one that the run was trained on.
      checkpoint: 'newest', 'best' or a step.
      max_images: Only the first images of the split; 0 for all.
    """

    split: str = "validation"
    data_dir: str | None = None
    checkpoint: str = "newest"
    max_images: int = 0


def evaluate_proposals(
    run_dir: str,
    options: ProposalEvaluation,
    make_proposer: Callable[[TrainedModel], Proposer],
) -> dict:
    """Proposes objects of every image of a split; writes RUN/evaluation/proposals/SPLIT.json.

    All object pixels of an image are one object; an image without any counts for the time alone.

    Args:
      run_dir: The run folder.
      options: See ProposalEvaluation.
      make_proposer: Makes what is evaluated; see proposer.make_proposer.

    Returns:
      The content of the JSON file: average_recall of mask and box by number of proposals, recall
      of the same by IoU; whole_picture, the average recall of one proposal as large as the
      picture; windows, masks and seconds for an image, and forward_share of the seconds; split,
      images, objects, checkpoint_step, and the settings of the proposals.

    Raises:
      UserError: The run knows no objectness; or run, data set or split do not fit.
      FaultFound: A shard differs from its manifest.
    """
    trained = trained_model.load_trained_model(run_dir, options.checkpoint)
    proposer = make_proposer(trained)
    data_dir = options.data_dir or trained.config.data.dir
    data = manifest.read_manifest(data_dir)
    split = data.split(options.split, data_dir)
    if faults := shard_hashes.check_shards(data_dir, [split], hashes=True):
        raise FaultFound(f"{faults[0]}; convert the data set again")
    check_meaning(trained, data, raw_values(data_dir, split), data_dir)
    images = min(options.max_images or split.records, split.records)
    paths, class_ids = manifest.shard_paths(data_dir, split), trained.label_map.class_ids()
    found: dict[str, list[np.ndarray]] = {kind: [] for kind in _KINDS}
    whole: dict[str, list[np.ndarray]] = {kind: [] for kind in _KINDS}
    elsewhere = "end other programs on it, or use the CPU: CUDA_VISIBLE_DEVICES= petseg-evaluate"
    with (
        device_memory.exhaustion_in_one_line(elsewhere),
        Progress(0, images, title="propose", unit="image") as progress,
    ):
        originals = stored_examples.read_originals(paths)
        for original, _ in zip(originals, range(images), strict=False):
            proposals = proposer.propose(original.image)
            mask = class_ids[original.mask] == proposer.options.object_class
            if mask.any():
                _add(found, proposals.masks, proposals.boxes, mask)
                _add(whole, np.ones((1, *mask.shape), bool), _whole_box(mask), mask)
            progress.advance()
    objects = len(found["mask"])
    figures = {
        "split": options.split,
        "images": images,
        "objects": objects,
        "average_recall": {kind: _by_count(found[kind], objects) for kind in _KINDS},
        "recall": {kind: _by_iou(found[kind], objects) for kind in _KINDS},
        "whole_picture": {kind: _by_count(whole[kind], objects)["1"] for kind in _KINDS},
        **proposer.figures(),
        "scales": proposer.options.pyramid.scales,
        "count": proposer.options.count,
        "max_iou": proposer.options.max_iou,
        "checkpoint_step": trained.step,
    }
    folder = evaluations.evaluation_folder(run_dir) / _FOLDER
    folder.mkdir(exist_ok=True)
    evaluations.write_text(folder / f"{options.split}.json", json.dumps(figures, indent=1) + "\n")
    return figures


def format_recall(figures: dict) -> str:
    """The figures of evaluate_proposals, for people."""
    lines = [f"{'average recall':<14}" + "".join(f"{f'@{count}':>9}" for count in COUNTS)]
    for kind in _KINDS:
        values = figures["average_recall"][kind].values()
        lines.append(f"{kind:<14}" + "".join(f"{_shown(value):>9}" for value in values))
    whole = figures["whole_picture"]
    lines.append(
        f"one proposal, the whole picture: {_shown(whole['mask'])} (mask), "
        f"{_shown(whole['box'])} (box)"
    )
    lines.append(
        f"{figures['images']:,} images, {figures['objects']:,} objects; each image "
        f"{figures['windows']:,.0f} windows and {figures['masks']:,.0f} masks "
        f"in {figures['seconds']:.2f} s, {figures['forward_share']:.0%} of it in the model"
    )
    return "\n".join(lines)


def _add(
    found: dict[str, list[np.ndarray]], masks: np.ndarray, boxes: np.ndarray, mask: np.ndarray
) -> None:
    """Counts whether proposals find the object of an image; `found` grows."""
    found["mask"].append(count_found(mask_ious(masks, mask[None])))
    found["box"].append(count_found(box_ious(boxes, np.array([tight_box(mask)]))))


def _whole_box(mask: np.ndarray) -> np.ndarray:
    height, width = mask.shape
    return np.array([[0, 0, width, height]])


def _by_count(found: Sequence[np.ndarray], objects: int) -> dict[str, float | None]:
    if not objects:
        return dict.fromkeys(map(str, COUNTS))
    values = map(number_or_none, average_recall(found, objects))
    return dict(zip(map(str, COUNTS), values, strict=True))


def _by_iou(found: Sequence[np.ndarray], objects: int) -> dict[str, dict[str, float]]:
    if not objects:
        return {}
    shares = np.sum(found, 0) / objects
    ious = [f"{iou:.2f}" for iou in IOU_THRESHOLDS]
    return {
        str(count): dict(zip(ious, row.tolist(), strict=True))
        for count, row in zip(COUNTS, shares, strict=True)
    }


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
