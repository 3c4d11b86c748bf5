"""The trained model that a run folder holds."""

import dataclasses
import sys
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from petseg.config import Config
from petseg.data.image_range import ImageRange, parse_image_range
from petseg.data.label_map import LabelMap, parse_label_map
from petseg.errors import UserError
from petseg.image_size import ImageSize, sides_of
from petseg.metrics.presence import THRESHOLD
from petseg.models import segmentation_model
from petseg.models.segmentation_model import ModelOptions, SegmentationModel
from petseg.run_dir import checkpoints, evaluations, run_folder
from petseg.visualization import pictures


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A run's model, and what is needed to use it.

    Attributes:
      config: The settings it was trained with.
      label_map: Names and raw values of its classes.
      raw_labels: Raw mask value -> its meaning in the data set it was trained on.
      palette: Colours of its classes, from pictures.palette.
      model: With its weights restored.
      step: The checkpoint's.
      image_range: What becomes 0 and 255 in pictures of more than 8 bits, as in its data set.
    """

    config: Config
    label_map: LabelMap
    raw_labels: dict[int, str]
    palette: np.ndarray
    model: SegmentationModel
    step: int
    image_range: ImageRange | None = None

    def at_size(self, image_size: ImageSize) -> SegmentationModel:
        """The same model for images of another size, in pixels, multiples of 32."""
        if sides_of(image_size) == sides_of(self.config.data.image_size):
            return self.model
        model = build_untrained(self.config, self.label_map.num_classes, image_size)
        for copy, variable in zip(model.variables, self.model.variables, strict=True):
            copy.assign(variable)
        return dataclasses.replace(model, thresholds=self.model.thresholds)

    def keeping_absent(self) -> "TrainedModel":
        """The same, but classes that its presence head calls absent are not suppressed."""
        return dataclasses.replace(self, model=dataclasses.replace(self.model, thresholds=()))


def load_trained_model(run_dir: str, checkpoint: str = "newest") -> TrainedModel:
    """Rebuilds a run's model and restores its weights, averaged ones if the run keeps them.

    A newer checkpoint that cannot be read is named on standard error.

    Args:
      run_dir: The run folder.
      checkpoint: 'newest' (that can be read), 'best' (by the run's best_metric) or a step.

    Raises:
      UserError: It is not a run folder, or there is no such checkpoint that can be read.
    """
    config = run_folder.read_config(run_dir)
    label_map = parse_label_map(config.data.label_map)
    model = build_untrained(config, label_map.num_classes, config.data.image_size)
    step = _choose_step(run_dir, checkpoint, config.train.best_metric)
    checkpoints.restore(served_variables(config, model), run_dir, step)
    if model.presence:
        thresholds = _presence_thresholds(run_dir, step, label_map.names)
        model = dataclasses.replace(model, thresholds=thresholds)
    data = run_folder.read_data_manifest(run_dir)
    palette = pictures.palette(label_map, data.colours)
    value_range = parse_image_range(str(data.source.get("image_range", "")))
    return TrainedModel(config, label_map, data.raw_labels, palette, model, step, value_range)


def model_options(config: Config) -> ModelOptions:
    """The options of the model that settings describe."""
    model = config.model
    return ModelOptions(
        encoder=model.encoder,
        decoder=model.decoder,
        encoder_width=model.encoder_width,
        encoder_convs=model.encoder_convs,
        decoder_channels=model.decoder_channels,
        presence=model.presence,
        class_masks=model.class_masks,
        image_classes=len(config.data.image_classes),
        seed=config.train.seed,
    )


def build_untrained(config: Config, num_classes: int, image_size: ImageSize) -> SegmentationModel:
    """The model that settings describe, float32, with random weights."""
    return segmentation_model.build_model(
        model_options(config), num_classes=num_classes, image_size=image_size, weights="none"
    )


def served_variables(config: Config, model: SegmentationModel) -> dict[str, tf.Variable]:
    """A model's variables by the names, in the run's checkpoints, of the weights it serves."""
    averaged = set()
    if config.optimizer.average_decay:
        for stage in config.stages():
            averaged |= {weight.path for weight in model.trainable_weights(stage.trainable)}
    return {
        average_name(v.path) if v.path in averaged else v.path: v.value for v in model.variables
    }


def _presence_thresholds(run_dir: str, step: int, names: Sequence[str]) -> tuple[float, ...]:
    """Those of the last evaluation up to a step; 0, which suppresses nothing, before any."""
    known = evaluations.read_evaluations(run_dir)
    steps = [one for one, figures in known.items() if one <= step and THRESHOLD in figures]
    found = known[max(steps)][THRESHOLD] if steps else {}
    return tuple(float(found.get(name) or 0.0) for name in names)


def average_name(path: str) -> str:
    """The name in a checkpoint of a weight's moving average."""
    return f"average/{path}"


def _choose_step(run_dir: str, checkpoint: str, best_metric: str) -> int:
    if checkpoint == "newest":
        step, skipped = checkpoints.newest_readable(run_dir)
        for line in skipped:
            print(line, file=sys.stderr)
        return step
    steps = checkpoints.saved_steps(run_dir)
    if checkpoint == "best":
        step = checkpoints.best_step(run_dir, best_metric)
        if step is None:
            raise UserError(f"--checkpoint=best: no checkpoint of {run_dir} has a {best_metric}")
        return step
    if not checkpoint.isdigit() or int(checkpoint) not in steps:
        raise UserError(
            f"--checkpoint={checkpoint} must be newest, best or one of the steps "
            f"{', '.join(map(str, steps)) or '(there is none)'} of {run_dir}"
        )
    return int(checkpoint)
