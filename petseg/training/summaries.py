"""What TensorBoard is told."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from etils import epath

from petseg import pictures
from petseg.modeling.metrics import Scores


def make_writers(workdir: str) -> tuple[tf.summary.SummaryWriter, tf.summary.SummaryWriter]:
    """Writers of RUN/train and RUN/validation."""
    root = epath.Path(workdir)
    train, validation = (
        tf.summary.create_file_writer(str(root / name)) for name in ("train", "validation")
    )
    return train, validation


def write_scalars(writer: tf.summary.SummaryWriter, step: int, values: Mapping[str, float]) -> None:
    """One point on each named curve."""
    with writer.as_default(step):
        for name, value in values.items():
            tf.summary.scalar(name, value)


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
