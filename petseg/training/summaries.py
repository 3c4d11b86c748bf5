"""What TensorBoard is told.

RUN                 what a run is: settings, data, model, and hparams beside the final figures
RUN/train           curves of training steps, histograms, profiles
RUN/validation      figures, panels and confusion matrices of evaluations
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from etils import epath
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalar_summary
from tensorboard.plugins.hparams import api as hparams_api
from tensorboard.plugins.hparams import api_pb2 as hparams_pb2
from tensorboard.plugins.hparams import summary as hparams_summary

from petseg.training import event_files
from petseg.visualization import charts, pictures

TRAIN, VALIDATION = "train", "validation"
DOCTOR = "input/doctor"
PANEL, WORST, CONFUSION = "panel", "panel_worst", "confusion_matrix"
_CLASSES_IN_CHARTS = 20


@dataclasses.dataclass(frozen=True)
class Writers:
    """One writer a folder: of the run itself, its training and its validation."""

    run: tf.summary.SummaryWriter
    train: tf.summary.SummaryWriter
    validation: tf.summary.SummaryWriter

    def all(self) -> tuple[tf.summary.SummaryWriter, ...]:
        """Every one of them."""
        return self.run, self.train, self.validation


@dataclasses.dataclass(frozen=True)
class Shown:
    """Examples for a panel.

    Attributes:
      images: uint8 [examples, size, size, 3].
      truth: uint8 [examples, size, size], class ids or IGNORE.
      predicted: uint8 [examples, size, size], class ids.
      captions: one an example, or none.
    """

    images: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    captions: tuple[str, ...] = ()


def make_writers(workdir: str, is_silent: bool) -> Writers:
    """Opens the event files of a run; silent ones write nothing."""
    if is_silent:
        return Writers(*(tf.summary.create_noop_writer() for _ in range(3)))
    root = epath.Path(workdir)
    folders = (root, root / TRAIN, root / VALIDATION)
    return Writers(*(tf.summary.create_file_writer(str(folder)) for folder in folders))


def forget_after(workdir: str, step: int, is_resumed: bool, is_evaluated: bool) -> None:
    """Takes out of the event files what a run that goes on at a step will tell again.

    Args:
      workdir: the run.
      step: of the checkpoint that it goes on from.
      is_resumed: whether there is one; otherwise all of it will be told again.
      is_evaluated: whether that step's evaluation was told and noted.
    """
    root = epath.Path(workdir)
    # What a run is, it tells anew at each start: settings may have changed.
    event_files.drop_events(str(root), lambda _at, _tag: False)
    event_files.drop_events(
        str(root / TRAIN),
        lambda at, tag: is_resumed and (at < step or (at == step and tag != DOCTOR)),
    )
    last_told = step if is_resumed and is_evaluated else step - 1
    event_files.drop_events(str(root / VALIDATION), lambda at, _tag: at <= last_told)


def write_run(
    writer: tf.summary.SummaryWriter,
    *,
    name: str,
    texts: Mapping[str, str],
    hparams: Mapping[str, bool | float | str],
    compared: Sequence[str],
    class_names: Sequence[str],
    forward: Callable[..., tf.Tensor],
    image_size: int,
) -> None:
    """Says what a run is.

    Args:
      writer: of the run itself.
      name: the run's, in the table of hparams.
      texts: Markdown by tag.
      hparams: settings by name.
      compared: the names of those that the table has columns for, if no sweep says others.
      class_names: of the label map.
      forward: the model, uint8 [batch, size, size, 3] -> logits, whose graph is shown.
      image_size: of the model, in pixels.
    """
    images = tf.TensorSpec([None, image_size, image_size, 3], tf.uint8, name="images")
    graph = tf.function(forward).get_concrete_function(images).graph
    with writer.as_default(step=0):
        for tag, text in texts.items():
            tf.summary.text(tag, text)
        _write_columns((), compared, class_names)
        hparams_api.hparams(dict(hparams), trial_id=name, start_time_secs=0)
        layout = custom_scalar_summary.pb(_layout())
        tf.summary.experimental.write_raw_pb(layout.SerializeToString())
        tf.summary.graph(graph)
    writer.flush()


def write_sweep(
    folder: str, varied: Sequence[str], compared: Sequence[str], class_names: Sequence[str]
) -> None:
    """Says what the runs in a folder differ in, in place of what was said before.

    Args:
      folder: of the runs' folders.
      varied: names of hparams; the table's first columns.
      compared: names of others.
      class_names: of the label map.
    """
    event_files.drop_events(folder, lambda _at, _tag: False)
    writer = tf.summary.create_file_writer(folder)
    with writer.as_default(step=0):
        _write_columns(varied, compared, class_names)
    writer.close()


def _write_columns(
    varied: Sequence[str], compared: Sequence[str], class_names: Sequence[str]
) -> None:
    """The table of hparams; TensorBoard takes the first that it finds: a sweep's, not a run's."""
    figures = {"metrics/mean_iou": "mean_iou", "metrics/pixel_accuracy": "pixel_accuracy"}
    figures |= {f"iou/{name}": name for name in class_names[:_CLASSES_IN_CHARTS]}
    metrics = [
        *(_metric(VALIDATION, tag, name) for tag, name in figures.items()),
        _metric(TRAIN, "loss/total", "training loss"),
    ]
    settings = [hparams_pb2.HParamInfo(name=name, differs=True) for name in varied]
    settings += [hparams_pb2.HParamInfo(name=name) for name in compared if name not in varied]
    columns = hparams_summary.experiment_pb(settings, metrics, time_created_secs=0)
    tf.summary.experimental.write_raw_pb(columns.SerializeToString())


def _metric(group: str, tag: str, shown: str) -> hparams_pb2.MetricInfo:
    name = hparams_pb2.MetricName(group=group, tag=tag)
    return hparams_pb2.MetricInfo(name=name, display_name=shown)


def write_end(writer: tf.summary.SummaryWriter) -> None:
    """Says that a run has come to its end."""
    with writer.as_default(step=0):
        ended = hparams_summary.session_end_pb(hparams_pb2.STATUS_SUCCESS)
        tf.summary.experimental.write_raw_pb(ended.SerializeToString())
    writer.flush()


def _layout() -> layout_pb2.Layout:
    """The three charts to look at first."""
    charts_ = [
        ("training loss", [r"^loss/"]),
        ("validation: mean IoU, and IoU of each class", [r"^metrics/mean_iou$", r"^iou/"]),
        ("images per second", [r"^input/images_per_second$"]),
    ]
    return layout_pb2.Layout(
        category=[
            layout_pb2.Category(
                title="Does it learn, is it good, is it fast?",
                chart=[
                    layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=t))
                    for title, t in charts_
                ],
            )
        ]
    )


def write_scalars(writer: tf.summary.SummaryWriter, step: int, values: Mapping[str, float]) -> None:
    """One point on each named curve."""
    # As arrays: TensorFlow keeps each Python number that it is given for ever.
    with writer.as_default(tf.constant(np.array(step, np.int64))):
        for name, value in values.items():
            tf.summary.scalar(name, np.float32(value))


def write_evaluation(
    writer: tf.summary.SummaryWriter,
    step: int,
    values: Mapping[str, float],
    confusion: np.ndarray,
    names: Sequence[str],
) -> None:
    """Metrics by tag, and the confusion matrix as a picture."""
    write_scalars(writer, step, values)
    drawn = charts.to_pixels(charts.confusion_matrix(confusion, names))
    with writer.as_default(step):
        tf.summary.image(CONFUSION, drawn[None])


def write_panel(
    writer: tf.summary.SummaryWriter,
    step: int,
    tag: str,
    shown: Shown,
    names: Sequence[str],
    table: np.ndarray,
) -> None:
    """A picture of examples.

    Args:
      writer: of the validation.
      step: of the evaluation.
      tag: PANEL, the same images every time, or WORST.
      shown: the examples.
      names: of the classes.
      table: colours, from pictures.palette.
    """
    drawn = pictures.panel(shown.images, shown.truth, shown.predicted, names, table, shown.captions)
    with writer.as_default(step):
        tf.summary.image(tag, drawn[None])


def write_histograms(
    writer: tf.summary.SummaryWriter, step: int, values: Mapping[str, np.ndarray]
) -> None:
    """How the values of each named array are spread."""
    with writer.as_default(step):
        for name, array in values.items():
            tf.summary.histogram(name, array)


def write_text(writer: tf.summary.SummaryWriter, step: int, name: str, text: str) -> None:
    """A text, shown with its spaces and line breaks."""
    with writer.as_default(step):
        tf.summary.text(name, as_is(text))


def as_is(text: str) -> str:
    """Markdown that shows a text with its spaces and line breaks."""
    return "".join(f"    {line}\n" for line in text.splitlines())
