"""What masks of some classes teach of the others: which runs to compare, and how they are judged.

Source: Hu, Dollar, He, Darrell and Girshick 2018, "Learning to segment every thing"; the arms with
boxes follow Birodkar et al. 2021, "The surprising impact of mask-head architecture on novel class
segmentation" (Deep-MAC), who crop objects by their boxes.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from petseg.data import manifest
from petseg.data.label_map import IGNORE, foreground
from petseg.input_pipeline import pipeline
from petseg.input_pipeline.pipeline import InputOptions
from petseg.input_pipeline.truth import IMAGE_CLASS, are_inside, boxes_around
from petseg.metrics import boundaries, image_metrics, pixel_counts
from petseg.metrics.measure import image_counts
from petseg.models.encoders.base import IMAGE
from petseg.run_dir.trained_model import TrainedModel

LOSS = "cross_entropy+image_class+box"
ORACLE, AGNOSTIC, CROPS, CROPS_ORACLE = "oracle", "agnostic", "crops", "crops_oracle"
_BATCH_SIZE = 16


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to train on the masks of some classes.

    Attributes:
      settings: Of the run, by name, beside the masks that it may see.
      sees_all: Whether it sees the masks of all classes.
      is_cropped: Whether it is trained, and judged, on the objects cut out by their boxes.
    """

    settings: Mapping[str, str]
    sees_all: bool = False
    is_cropped: bool = False


_SHARED = {"model.class_masks": "shared"}
ARMS = {
    AGNOSTIC: Arm(_SHARED),
    "transfer": Arm({"model.class_masks": "transfer"}),
    "summed": Arm({"model.class_masks": "summed"}),
    "box_filled": Arm({**_SHARED, "data.without_mask": "box"}),
    ORACLE: Arm(_SHARED, sees_all=True),
    CROPS: Arm(_SHARED, is_cropped=True),
    CROPS_ORACLE: Arm(_SHARED, sees_all=True, is_cropped=True),
}


@dataclasses.dataclass(frozen=True)
class Division:
    """Which classes have masks, and on which others a run is judged.

    Attributes:
      name: Of the division; runs of the same name and another seed repeat it.
      with_masks: Ids of the images' classes whose masks are seen.
      judged: Ids of those without masks on which runs are judged.
    """

    name: str
    with_masks: tuple[int, ...]
    judged: tuple[int, ...]

    def masks_of(self, names: Sequence[str]) -> str:
        """The setting data.masks_of."""
        # Brackets keep what a pattern would take for a sign of its own.
        chosen = ["".join(f"[{c}]" if c in "*?[" else c for c in names[i]) for i in self.with_masks]
        return f"class={','.join(chosen)}"


def random_halves(count: int, classes: int, seed: int) -> list[Division]:
    """Divisions of all classes into two random halves; the larger one has masks."""
    divisions = []
    for number in range(count):
        order = np.random.default_rng([seed, number]).permutation(classes).tolist()
        half = (classes + 1) // 2
        divisions.append(
            Division(f"half{number + 1}", tuple(sorted(order[:half])), tuple(sorted(order[half:])))
        )
    return divisions


def growing(counts: Sequence[int], classes: int, seed: int) -> list[Division]:
    """Divisions with more and more classes with masks, all judged on the same others."""
    order = np.random.default_rng([seed, 1_000]).permutation(classes).tolist()
    judged = tuple(sorted(order[max(counts) :]))
    return [Division(f"first{count}", tuple(sorted(order[:count])), judged) for count in counts]


@dataclasses.dataclass(frozen=True)
class Judged:
    """What a run predicts of each image of the validation split.

    Attributes:
      image_class: int64 [images].
      predicted_class: int64 [images].
      areas: By whose masks they are ('predicted' or 'true' class) and where ('image', or 'box' for
        the pixels within the object's box alone): int64 [images, classes, 3], see
        pixel_counts.areas.
      boundary: int64 [images, classes, 2], of the predicted class's masks; see
        boundaries.count_boundaries.
    """

    image_class: np.ndarray
    predicted_class: np.ndarray
    areas: dict[tuple[str, str], np.ndarray]
    boundary: np.ndarray

    def figures(self, classes: Sequence[int]) -> dict[str, float]:
        """Figures of the images of some classes; mean IoU is over pet and background."""
        rows = np.isin(self.image_class, classes)
        boundary = boundaries.boundary_iou(self.boundary[rows].sum(0))
        names = [str(index) for index in range(self.boundary.shape[1])]
        counts = {key: image_counts(areas[rows], names) for key, areas in self.areas.items()}
        predicted, in_box = counts["predicted", "image"], counts["predicted", "box"]
        return {
            "mean_iou": image_metrics.joint_mean_iou(predicted),
            "image_mean_iou": image_metrics.image_mean_iou(predicted),
            "boundary_iou": float(np.nanmean(boundary)),
            "mean_iou_of_true_class": image_metrics.joint_mean_iou(counts["true", "image"]),
            "image_mean_iou_in_box": image_metrics.image_mean_iou(in_box),
            "class_accuracy": float((self.image_class == self.predicted_class)[rows].mean()),
        }


def write_judged(judged: Judged, path: Path) -> None:
    """Writes what a run predicts; `read_judged` reads it."""
    areas = {" ".join(key): values for key, values in judged.areas.items()}
    temporary = path.with_suffix(".tmp.npz")
    np.savez_compressed(
        temporary,
        truth=judged.image_class,
        predicted=judged.predicted_class,
        boundary=judged.boundary,
        **areas,
    )
    temporary.replace(path)


def read_judged(path: Path) -> Judged:
    """Reads what `write_judged` wrote."""
    with np.load(path) as found:
        areas = {tuple(name.split()): found[name] for name in found.files if " " in name}
        return Judged(found["truth"], found["predicted"], areas, found["boundary"])


def judge(trained: TrainedModel, data_dir: str, split: str = "validation") -> Judged:
    """Predicts a split, by the classes that the model predicts and by the true ones.

    Args:
      trained: With a head for the images' classes.
      data_dir: The data set.
      split: Of the data set.
    """
    found, data = manifest.read_manifest(data_dir), trained.config.data
    num_classes, model = trained.label_map.num_classes, trained.model
    options = InputOptions(
        trained.label_map.class_ids(),
        data.image_size,
        _BATCH_SIZE,
        keep_aspect=data.keep_aspect,
        has_image_class=True,
    )
    objects = foreground(trained.label_map.names)

    @tf.function(autograph=False)
    def predict(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        stages = dict(zip(model.level_stages, model.features({IMAGE: batch["image"]}), strict=True))
        by_class = {
            "predicted": model.outputs(stages),
            "true": model.outputs(stages, batch[IMAGE_CLASS]),
        }
        masks = {name: tf.argmax(one.pixels, -1) for name, one in by_class.items()}
        truths = {"image": batch["mask"], "box": _outside_ignored(batch["mask"], objects)}
        results = {
            f"{name} {where}": pixel_counts.areas(
                pixel_counts.count_pairs(truth, mask, num_classes)
            )
            for name, mask in masks.items()
            for where, truth in truths.items()
        }
        predicted_class = tf.argmax(by_class["predicted"].image_class, -1)
        boundary = tf.map_fn(
            lambda pair: boundaries.count_boundaries(*pair, num_classes),
            (batch["mask"], tf.cast(masks["predicted"], tf.uint8)),
            fn_output_signature=tf.int64,
        )
        return {**results, "class": predicted_class, "boundary": boundary}

    rows: dict[str, list[np.ndarray]] = {}
    for batch in pipeline.make_for_eval(
        manifest.shard_paths(data_dir, found.split(split, data_dir)), options
    ):
        counted = batch["weight"].numpy() > 0
        for name, values in {**predict(batch), "truth": batch[IMAGE_CLASS]}.items():
            rows.setdefault(name, []).append(values.numpy()[counted])
    joined = {name: np.concatenate(parts) for name, parts in rows.items()}
    return Judged(
        joined["truth"],
        joined["class"],
        {tuple(name.split()): values for name, values in joined.items() if " " in name},
        joined["boundary"],
    )


def _outside_ignored(masks: tf.Tensor, objects: Sequence[int]) -> tf.Tensor:
    """Masks whose pixels count within the box around the object alone."""
    is_inside = are_inside(boxes_around(masks, objects), tf.shape(masks)[1:])
    return tf.where(is_inside, masks, tf.constant(IGNORE, tf.uint8))


def gap_closed(figure: float, agnostic: float, oracle: float) -> float:
    """Share of the way from the model that knows no classes to the one that saw all masks."""
    return (figure - agnostic) / (oracle - agnostic)
