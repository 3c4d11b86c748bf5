"""What a run writes for TensorBoard.

RUN                 what a run is: settings, data, model, and hparams beside the final figures
RUN/train           curves of training steps, histograms, profiles
RUN/validation      figures, panels and confusion matrices of evaluations
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from etils import epath
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalar_summary
from tensorboard.plugins.hparams import api as hparams_api
from tensorboard.plugins.hparams import api_pb2 as hparams_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.hparams import summary as hparams_summary

from petseg.errors import FaultFound
from petseg.image_size import ImageSize, sides_of
from petseg.registry import METRICS
from petseg.training import event_files
from petseg.visualization import pictures
from petseg.visualization.charts import ConfusionChart

TRAIN, VALIDATION = "train", "validation"
BOTTLENECK = "input/bottleneck"
LOSS = "loss/total"
PANEL, WORST, CONFUSION = "panel", "panel_worst", "confusion_matrix"
_CLASSES_IN_CHARTS = 20
_TICKED = 5  # columns of hparams, and as many of figures


@dataclasses.dataclass(frozen=True)
class Description:
    """What a run is.

    Attributes:
      name: The run's, in the table of hparams.
      texts: Markdown by tag.
      hparams: Settings by name.
      columns: Names of the hparams that the table has columns for, if no sweep names others.
      class_names: Of the label map.
      forward: The model, uint8 [batch, height, width, 3] -> logits, whose graph is shown.
      image_size: Of the model, in pixels.
    """

    name: str
    texts: Mapping[str, str]
    hparams: Mapping[str, bool | float | str]
    columns: Sequence[str]
    class_names: Sequence[str]
    forward: Callable[[tf.Tensor], tf.Tensor]
    image_size: ImageSize


@dataclasses.dataclass(frozen=True)
class Panel:
    """Examples as a picture shows them.

    Attributes:
      images: uint8 [examples, height, width, 3].
      truth: uint8 [examples, height, width], class ids or the ignore value.
      predicted: uint8 [examples, height, width], class ids.
      captions: Of each example, as pictures.squares takes them; or none.
    """

    images: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    captions: tuple[pictures.Caption, ...] = ()


class TensorBoard:
    """The event files of a run; on hosts other than the first it writes nothing."""

    def __init__(self, run_dir: str, *, is_silent: bool):
        """Opens the event files.

        Args:
          run_dir: The run folder.
          is_silent: Write nothing.
        """
        self._root, self._is_silent = epath.Path(run_dir), is_silent
        self._chart: ConfusionChart | None = None
        folders = (self._root, self._root / TRAIN, self._root / VALIDATION)
        self._run, self._train, self._validation = (
            tf.summary.create_noop_writer()
            if is_silent
            else tf.summary.create_file_writer(str(folder))
            for folder in folders
        )

    def log_start(self, first_train_step: int, first_validation_step: int) -> None:
        """Makes a TensorBoard that is already running forget what will be written again.

        Call it before anything is written.

        Args:
          first_train_step: The first step whose training curves will be written.
          first_validation_step: The first step whose evaluation will be written.
        """
        if self._is_silent:
            return
        event_files.log_start(self._run, 0)
        event_files.log_start(self._train, first_train_step)
        event_files.log_start(self._validation, first_validation_step)

    def close(self) -> None:
        """Ends a profile that was begun and closes the files."""
        self._stop_profile()
        for writer in (self._run, self._train, self._validation):
            # A full disk has been reported; what is not flushed is written after a resume.
            with contextlib.suppress(tf.errors.OpError):
                writer.close()

    def flush_train(self) -> None:
        """Writes the training curves so far to disk, as a checkpoint of this step follows."""
        self._train.flush()

    def describe_run(self, run: Description) -> None:
        """Writes what a run is."""
        images = tf.TensorSpec([None, *sides_of(run.image_size), 3], tf.uint8, name="images")
        graph = tf.function(run.forward, autograph=False).get_concrete_function(images).graph
        with writing("the description of the run"), self._run.as_default(step=0):
            for tag, text in run.texts.items():
                tf.summary.text(tag, text)
            _write_columns(run.columns[:_TICKED], run.columns, run.class_names)
            hparams_api.hparams(dict(run.hparams), trial_id=run.name, start_time_secs=0)
            layout = custom_scalar_summary.pb(_layout())
            tf.summary.experimental.write_raw_pb(layout.SerializeToString())
            tf.summary.graph(graph)
            self._run.flush()

    def end_run(self) -> None:
        """Marks the run as finished."""
        with self._run.as_default(step=0):
            ended = hparams_summary.session_end_pb(hparams_pb2.STATUS_SUCCESS)
            tf.summary.experimental.write_raw_pb(ended.SerializeToString())
        self._run.flush()

    def training_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """A point on each training curve."""
        with writing(f"the curves of step {step}"):
            _write_scalars(self._train, step, values)

    def bottleneck(self, step: int, text: str) -> None:
        """Writes what limits training."""
        with self._train.as_default(step):
            tf.summary.text(BOTTLENECK, as_markdown(text))

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """The distribution of each named array."""
        with writing(f"the histograms of step {step}"), self._train.as_default(step):
            for name, array in values.items():
                tf.summary.histogram(name, array)

    def evaluation(
        self,
        step: int,
        values: Mapping[str, float],
        confusion: np.ndarray,
        class_names: Sequence[str],
    ) -> None:
        """Figures by tag, and the confusion matrix as a picture."""
        _write_scalars(self._validation, step, values)
        self._chart = self._chart or ConfusionChart(class_names)
        drawn = self._chart.pixels(confusion)
        with self._validation.as_default(step):
            tf.summary.image(CONFUSION, drawn[None])
        self._validation.flush()

    def panel(
        self, step: int, tag: str, panel: Panel, class_names: Sequence[str], palette: np.ndarray
    ) -> None:
        """A picture for each example.

        Args:
          step: Of the evaluation.
          tag: PANEL, the same images every time, or WORST.
          panel: The examples.
          class_names: Names of the classes.
          palette: Colours, from pictures.palette.
        """
        drawn = pictures.squares(
            panel.images, panel.truth, panel.predicted, class_names, palette, panel.captions
        )
        with self._validation.as_default(step):
            tf.summary.image(tag, drawn, max_outputs=len(drawn))

    def profile(self, step: int, steps: tuple[int, ...]) -> bool:
        """Begins or ends a profile at the first or second of two steps; whether it ended."""
        if not steps or self._is_silent:
            return False
        if step == steps[0]:
            tf.profiler.experimental.start(str(self._root / TRAIN))
        return step == steps[1] and self._stop_profile()

    def _stop_profile(self) -> bool:
        try:
            tf.profiler.experimental.stop()
        except tf.errors.UnavailableError:  # none was begun
            return False
        return True


def forget_after(run_dir: str, step: int, is_resumed: bool, is_evaluated: bool) -> None:
    """Removes from the event files what a run that resumes at a step will write again.

    Args:
      run_dir: The run folder.
      step: Of the checkpoint that it resumes from.
      is_resumed: Whether there is one; otherwise everything will be written again.
      is_evaluated: Whether that step's evaluation was written and recorded.
    """
    root = epath.Path(run_dir)
    # What a run is, is written at each start: settings may have changed.
    event_files.drop_events(str(root), lambda _at, _tag: False)
    event_files.drop_events(
        str(root / TRAIN),
        lambda at, tag: is_resumed and (at < step or (at == step and tag != BOTTLENECK)),
    )
    last = step if is_resumed and is_evaluated else step - 1
    event_files.drop_events(str(root / VALIDATION), lambda at, _tag: at <= last)


def write_sweep(
    folder: str, varied: Sequence[str], columns: Sequence[str], class_names: Sequence[str]
) -> None:
    """Writes what the runs in a folder differ in, instead of what a sweep wrote before.

    Args:
      folder: The folder of the runs' folders.
      varied: Names of hparams; the table's first columns.
      columns: Names of others.
      class_names: Of the label map.
    """
    # The folder may be one in which others log as well.
    event_files.drop_events(folder, lambda _at, tag: tag != hparams_metadata.EXPERIMENT_TAG)
    writer = tf.summary.create_file_writer(folder)
    with writer.as_default(step=0):
        _write_columns(varied, columns, class_names)
    writer.close()


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """Reports a full disk, or one that is gone, in one line."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = " ".join((getattr(error, "message", None) or str(error)).split())[:300]
        raise FaultFound(
            f"--workdir: cannot save {what}: {reason}; the last checkpoint is untouched, and the "
            "same command resumes from it"
        ) from error


def as_markdown(text: str) -> str:
    """Markdown that shows a text with its spaces and line breaks."""
    return "".join(f"    {line}\n" for line in text.splitlines())


def _write_scalars(
    writer: tf.summary.SummaryWriter, step: int, values: Mapping[str, float]
) -> None:
    # As arrays: TensorFlow keeps each Python number that it is given forever.
    with writer.as_default(tf.constant(np.array(step, np.int64))):
        for name, value in values.items():
            tf.summary.scalar(name, np.float32(value))


def _write_columns(
    first: Sequence[str], columns: Sequence[str], class_names: Sequence[str]
) -> None:
    """The table of hparams; TensorBoard takes the first that it reads: a sweep's, not a run's.

    It sorts columns by name, those that are marked as different before the others.
    """
    figures: dict[str, str] = {}
    for name, metric in METRICS.items():
        if metric.tag and not metric.per_class:
            figures[metric.tag] = name
        elif metric.tag:
            shown = class_names[:_CLASSES_IN_CHARTS]
            figures |= {metric.tag.replace("{class}", one): f"{name} of {one}" for one in shown}
    # The best figure, both losses, and others: the first few are ticked.
    best, *others = (_metric(VALIDATION, tag, name) for tag, name in figures.items())
    metrics = [
        best,
        _metric(VALIDATION, LOSS, "validation loss"),
        _metric(TRAIN, LOSS, "training loss"),
        *others,
    ]
    settings = [hparams_pb2.HParamInfo(name=name, differs=True) for name in first]
    settings += [hparams_pb2.HParamInfo(name=name) for name in columns if name not in first]
    experiment = hparams_summary.experiment_pb(settings, metrics, time_created_secs=0)
    tf.summary.experimental.write_raw_pb(experiment.SerializeToString())


def _metric(group: str, tag: str, display_name: str) -> hparams_pb2.MetricInfo:
    name = hparams_pb2.MetricName(group=group, tag=tag)
    return hparams_pb2.MetricInfo(name=name, display_name=display_name)


def _layout() -> layout_pb2.Layout:
    """The most important charts: a run has one line in each of the first three, or two."""
    shown = [
        ("loss, in training and validation", [r"^loss/total$"]),
        ("validation: mean IoU", [r"^metrics/mean_iou$"]),
        ("images per second", [r"^input/images_per_second$"]),
        ("validation: IoU of each class", [r"^iou/"]),
    ]
    return layout_pb2.Layout(
        category=[
            layout_pb2.Category(
                title="Does it learn, is it good, is it fast?",
                chart=[
                    layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=t))
                    for title, t in shown
                ],
            )
        ]
    )
