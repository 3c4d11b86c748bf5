"""The validation split, evaluated during training."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from petseg.inference import eval_step
from petseg.losses.terms import choose_losses
from petseg.metrics import image_metrics, never_predicted
from petseg.metrics import presence as presence_lib
from petseg.metrics.image_classes import by_image_class
from petseg.metrics.measure import image_counts, measure, tensorboard_values
from petseg.metrics.presence import Presence
from petseg.models.segmentation_model import SegmentationModel
from petseg.training import distribution, stages
from petseg.training.setup import RunSetup
from petseg.training.signals import until
from petseg.training.tensorboard import Panel
from petseg.visualization import pictures


@dataclasses.dataclass(frozen=True)
class ValidationResult:
    """The result of an evaluation.

    Attributes:
      figures: Every registered metric, as validation_by_step.json holds it.
      tags: The same for TensorBoard: value by tag.
      confusion: int64 [classes, classes], rows the truth.
      image_mean_ious: float64 [images], in the split's order; NaN where no pixel counts.
      presence: Of the images, if the model has such a head.
      has_class_weights: Whether the run gives its classes weights of their own.
    """

    figures: dict[str, object]
    tags: dict[str, float]
    confusion: np.ndarray
    image_mean_ious: np.ndarray
    presence: Presence | None = None
    has_class_weights: bool = False

    def line(self) -> str:
        """The figures to look at first."""
        mean = _shown(self.figures["mean_iou"], 4)
        ious = [f"{name} {_shown(iou, 3)}" for name, iou in self.figures["iou"].items()]
        return f"validation mean IoU {mean} ({', '.join(ious)})"

    def warnings(self) -> list[str]:
        """What a mean may hide, in lines."""
        names = list(self.figures["iou"])
        lost = never_predicted.never_predicted(self.confusion, names)
        lines = [never_predicted.warning(lost, self.has_class_weights)] if lost else []
        if self.presence and (line := presence_lib.warning(self.presence)):
            lines.append(line)
        return lines


class Validator:
    """Evaluates a run's model, with averaged weights if it keeps them."""

    def __init__(self, run: RunSetup, should_stop: Callable[[], bool]):
        """Compiles the counting of a batch.

        Args:
          run: Whose model and validation split.
          should_stop: Called before each batch, on all hosts; True raises StopNow.
        """
        self._run, self._should_stop = run, should_stop
        minimised = run.options.losses
        self._losses = choose_losses(
            minimised.terms,
            minimised.class_weights,
            minimised.label_smoothing,
            minimised.temperature,
        )
        self._step = eval_step.make_eval_step(
            run.model,
            run.data.label_map.num_classes,
            run.devices.strategy,
            self._losses,
            minimised.teacher,
            run.options.truth,
        )
        # Building and reading them takes time. Only those of the latest stage: they may be kept in
        # memory.
        self._batches = functools.lru_cache(maxsize=1)(self._make_batches)
        self._examples = functools.cache(run.data.validation_examples)

    @property
    def num_batches(self) -> int:
        """Batches of the validation split."""
        return -(-self._run.data.validation.records // self._run.data.options.batch_size)

    def evaluate(self, step: int, advance: Callable[[], None]) -> ValidationResult:
        """Counts every pixel of the validation split once.

        Args:
          step: Number of steps taken so far.
          advance: Called after each batch.
        """
        run, names = self._run, self._run.data.label_map.names
        # Features as the stage had them that led here: at its end the next one may have fewer.
        stage = stages.stage_at(run.planned, max(step - 1, 0)).stage
        with averaged(run.model, run.averages):
            batches = until(self._batches(stage.trainable), self._should_stop)
            counted = eval_step.evaluate(self._step, batches, self._losses, advance)
        measured = measure(counted.confusion, counted.areas, names)
        of_images = image_counts(counted.areas, names)
        tags = {**tensorboard_values(measured), **self._name_losses(counted.losses)}
        presence = None
        if run.model.presence:
            logits = counted.presence_logits.astype(np.float64)
            presence = Presence(1 / (1 + np.exp(-logits)), of_images, counted.image_labels)
            thresholds = presence_lib.choose_thresholds(presence)
            of_presence = presence_lib.presence_figures(presence, thresholds)
            measured |= of_presence
            tags |= presence_lib.presence_tags(of_presence)
        if run.data.image_classes:
            of_classes = by_image_class(
                of_images, counted.image_classes, run.options.truth.has_mask
            )
            measured |= of_classes
            tags |= {f"image_class/{k}": v for k, v in of_classes.items() if v is not None}
        return ValidationResult(
            measured,
            tags,
            counted.confusion,
            image_metrics.mean_ious(of_images),
            presence,
            has_class_weights=bool(run.options.losses.class_weights),
        )

    def _name_losses(self, means: np.ndarray) -> dict[str, float]:
        """The losses as training has them: each term times its weight, and their sum."""
        terms = self._run.options.losses.terms
        values = [mean * weight for mean, weight in zip(means, terms.values(), strict=True)]
        named = {f"loss/{name}": value for name, value in zip(terms, values, strict=True)}
        return {**named, "loss/total": sum(values)}

    def panel(self, indices: Sequence[int], ious: np.ndarray) -> Panel:
        """Examples of the validation split with their predictions.

        Args:
          indices: Of the examples in the split.
          ious: Mean IoU of each.
        """
        run = self._run
        examples = self._examples(tuple(indices))
        captions = tuple(map(pictures.caption, examples["name"], ious))
        with averaged(run.model, run.averages):
            predicted = eval_step.predict(run.model, examples["image"])
        return Panel(examples["image"], examples["mask"], predicted, captions)

    def _make_batches(self, trainable: str) -> Iterable:
        return distribution.distribute(self._run.devices, self._run.batches.validation(trainable))


def _shown(value: float | None, digits: int) -> str:
    return "nan" if value is None else f"{value:.{digits}f}"


@contextlib.contextmanager
def averaged(model: SegmentationModel, averages: dict[str, tf.Variable]) -> Iterator[None]:
    """Within the context the model has its averaged weights; then its own are restored exactly.

    Args:
      model: Whose weights.
      averages: By the weight's path; empty if the run keeps none.
    """
    weights: list[keras.Variable] = [v for v in model.variables if v.path in averages]
    values = [weight.numpy() for weight in weights]
    try:
        for weight in weights:
            weight.value.assign(tf.convert_to_tensor(averages[weight.path]))
        yield
    finally:
        for weight, value in zip(weights, values, strict=True):
            weight.value.assign(value)
