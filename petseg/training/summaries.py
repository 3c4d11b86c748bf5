"""What TensorBoard is told."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from etils import epath

from petseg import pictures
from petseg.modeling.metrics import Scores
from petseg.training import event_files

TRAIN, VALIDATION = "train", "validation"
DOCTOR = "input/doctor"


def make_writers(
    workdir: str, is_silent: bool
) -> tuple[tf.summary.SummaryWriter, tf.summary.SummaryWriter]:
    """Writers of RUN/train and RUN/validation; silent ones write nothing."""
    if is_silent:
        return tf.summary.create_noop_writer(), tf.summary.create_noop_writer()
    train, validation = (
        tf.summary.create_file_writer(str(epath.Path(workdir) / name))
        for name in (TRAIN, VALIDATION)
    )
    return train, validation


def forget_after(workdir: str, step: int, is_resumed: bool, is_evaluated: bool) -> None:
    """Takes out of the event files what a run that goes on at a step will tell again.

    Args:
      workdir: the run.
      step: of the checkpoint that it goes on from.
      is_resumed: whether there is one; otherwise all of it will be told again.
      is_evaluated: whether that step's evaluation was told and noted.
    """
    root = epath.Path(workdir)
    event_files.drop_events(
        str(root / TRAIN),
        lambda at, tag: is_resumed and (at < step or (at == step and tag != DOCTOR)),
    )
    last_told = step if is_resumed and is_evaluated else step - 1
    event_files.drop_events(str(root / VALIDATION), lambda at, _tag: at <= last_told)


def write_scalars(writer: tf.summary.SummaryWriter, step: int, values: Mapping[str, float]) -> None:
    """One point on each named curve."""
    # As arrays: TensorFlow keeps each Python number that it is given for ever.
    with writer.as_default(tf.constant(np.array(step, np.int64))):
        for name, value in values.items():
            tf.summary.scalar(name, np.float32(value))


def write_evaluation(
    writer: tf.summary.SummaryWriter, step: int, scores: Scores, names: Sequence[str]
) -> None:
    """Mean IoU, pixel accuracy and the IoU of each class that is present."""
    values = {"metrics/mean_iou": scores.mean_iou, "metrics/pixel_accuracy": scores.pixel_accuracy}
    for class_id, name in enumerate(names):
        if class_id not in scores.absent:
            values[f"iou/{name}"] = float(scores.iou[class_id])
    write_scalars(writer, step, values)


def write_panel(
    writer: tf.summary.SummaryWriter,
    step: int,
    images: np.ndarray,
    truth: np.ndarray,
    predicted: np.ndarray,
    names: Sequence[str],
) -> None:
    """The same validation images every time; see pictures.panel for the arguments."""
    with writer.as_default(step):
        tf.summary.image("panel", pictures.panel(images, truth, predicted, names)[None])


def write_text(writer: tf.summary.SummaryWriter, step: int, name: str, text: str) -> None:
    """A text, shown with its spaces and line breaks."""
    with writer.as_default(step):
        tf.summary.text(name, "".join(f"    {line}\n" for line in text.splitlines()))
