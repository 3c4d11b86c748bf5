"""What is done at an evaluation during training."""

import contextlib
import math
import time
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from petseg.inference import eval_step as evaluation
from petseg.metrics.measure import measure, named_values, tensorboard_values
from petseg.models.vgg16_skip import SkipModel
from petseg.run_dir import checkpoints, run_folder
from petseg.training import data_set, learner, summaries
from petseg.training.opening import Opened
from petseg.training.run import Course, Run
from petseg.training.stopping import until
from petseg.training.telling import writing


@contextlib.contextmanager
def averaged(model: SkipModel, averages: dict[str, tf.Variable]) -> Iterator[None]:
    """Meanwhile the model has its averaged weights; its own come back, bit by bit.

    Args:
      model: whose weights.
      averages: by the weight's path; empty if the run keeps none.
    """
    weights: list[keras.Variable] = [v for v in model.variables if v.path in averages]
    own = [weight.numpy() for weight in weights]
    try:
        for weight in weights:
            weight.value.assign(tf.convert_to_tensor(averages[weight.path]))
        yield
    finally:
        for weight, value in zip(weights, own, strict=True):
            weight.value.assign(value)


def evaluate(run: Run, course: Course) -> None:
    """Scores the validation split; tells TensorBoard, the run folder and the terminal."""
    opened, step = run.opened, course.step
    # As the stage saw them that led here: at its end the next one may know fewer pools.
    span = learner.span_at(opened.spans, max(step - 1, 0))
    known = learner.known_blocks(run.config, opened.model, span)
    place, label_map, records = opened.place, opened.data.label_map, opened.data.validation.records

    def is_over() -> bool:
        (stop,) = place.agree([float(run.request.signal is not None)])
        return stop > 0

    with averaged(opened.model, opened.averages):
        counted = evaluation.evaluate(
            run.eval_step,
            until(run.validation(known), is_over),
            -(-records // run.config.data.batch_size),
        )
        found = measure(counted.confusion, label_map.names)
        shown = {} if run.panel is None else _shown(run, step, counted.image_mean_ious)
    run.evaluations[step] = found
    if shown:
        names, writer = label_map.names, run.writers.validation
        with writing(f"the evaluation of step {step}"):
            for tag, examples in shown.items():
                summaries.write_panel(writer, step, tag, examples, names, run.table)
            values = tensorboard_values(found)
            summaries.write_evaluation(writer, step, values, counted.confusion, names)
            writer.flush()
            run_folder.add_evaluation(run.workdir, step, found)
            run_folder.add_seconds(run.workdir, step, time.monotonic() - run.began_s)
    run.progress.say(_evaluation_line(run, course, found))
    course.loss_sum, course.loss_steps = 0.0, 0


def _evaluation_line(run: Run, course: Course, found: dict) -> str:
    opened, step = run.opened, course.step
    epoch = step * run.config.data.batch_size / opened.data.train.records
    mean = course.loss_sum / max(course.loss_steps, 1)
    loss = f"loss {mean:.4f}  " if course.loss_steps else ""
    per_class = ", ".join(
        f"{name} {math.nan if iou is None else iou:.3f}" for name, iou in found["iou"].items()
    )
    mean_iou = math.nan if found["mean_iou"] is None else found["mean_iou"]
    return f"epoch {epoch:.1f}  step {step}  {loss}validation mean IoU {mean_iou:.4f} ({per_class})"


def _shown(run: Run, step: int, image_ious: np.ndarray) -> dict[str, summaries.Shown]:
    """What an evaluation shows, by tag: always the same images; at the end also the worst."""
    opened, count = run.opened, len(run.panel["name"])
    shown = {summaries.PANEL: _predicted(run, run.panel, image_ious[:count])}
    if step == opened.total_steps:
        worst = np.argsort(image_ious, kind="stable")[:count]
        examples = data_set.validation_examples(run.config, opened.data, worst.tolist())
        shown[summaries.WORST] = _predicted(run, examples, image_ious[worst])
    return shown


def _predicted(run: Run, examples: dict[str, np.ndarray], ious: np.ndarray) -> summaries.Shown:
    captions = tuple(f"{n}  {iou:.3f}" for n, iou in zip(examples["name"], ious, strict=True))
    predicted = evaluation.predict(run.opened.model, examples["image"])
    return summaries.Shown(examples["image"], examples["mask"], predicted, captions)


def panel_examples(opened: Opened) -> dict[str, np.ndarray]:
    """The first validation images, which every evaluation shows; see batches.read_examples."""
    count = min(opened.config.train.panel_images, opened.data.validation.records)
    return data_set.validation_examples(opened.config, opened.data, range(count))


def note_metrics(run: Run, step: int) -> None:
    """Scores go to the checkpoint's page, by which the best one is kept."""
    if not run.opened.place.host.is_first or step not in run.evaluations:
        return
    train = run.config.train
    found = named_values(run.evaluations[step])
    checkpoints.add_metrics(run.workdir, step, found)
    checkpoints.remove_old(run.workdir, step, train.keep_checkpoints, train.best_metric)
