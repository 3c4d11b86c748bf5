"""The custom training loop, the same for every strategy.

A call of the compiled graph takes several steps: up to the next point of the curves, the
next evaluation, or about a second, so that a signal is heard in time.
"""

import contextlib
import functools
import math
import signal
import time
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

from petseg import config as config_lib
from petseg.config import Config
from petseg.data import manifest
from petseg.errors import FaultFound, StoppedBySignal, UserError
from petseg.feature_cache.store import SETTING
from petseg.inference.eval_step import make_eval_step
from petseg.input_pipeline import pipeline
from petseg.metrics.measure import named_values
from petseg.run_dir import checkpoints, run_folder
from petseg.run_dir.checkpoints import Page
from petseg.training import (
    data_set,
    doctor,
    learner,
    opening,
    precision,
    schedules,
    summaries,
    telling,
    validation,
)
from petseg.training.curves import Window
from petseg.training.doctor import Diagnosis, Figures
from petseg.training.learner import Learner
from petseg.training.opening import Opened
from petseg.training.progress import Progress
from petseg.training.run import Course, Run
from petseg.training.stopping import StopNow, noticing_signals
from petseg.visualization import pictures

_CALL_S = 1.0
# What TensorFlow says, one or the other, when a host has gone.
_LOST = (
    *(tf.errors.UnavailableError, tf.errors.InternalError, tf.errors.AbortedError),
    *(tf.errors.CancelledError, tf.errors.DeadlineExceededError, tf.errors.UnknownError),
    tf.errors.FailedPreconditionError,
)


def train_and_evaluate(config: Config, run_dir: str) -> None:
    """Trains, evaluates and saves; goes on where a run in `run_dir` ended.

    Raises:
      UserError: a setting, the data set or the run folder is wrong.
      FaultFound: a shard is damaged or has gone, the loss is not finite, a checkpoint
        cannot be written, or another host has gone.
      StoppedBySignal: SIGINT or SIGTERM came; the step was finished and saved.
    """
    started_s = time.monotonic()
    config_lib.validate(config)
    config = config_lib.spell_out(config)
    place = opening.find_place(config)
    with _naming_faults(config, place.host.count):
        opened = opening.open_run(config, run_dir, place)
        step = opened.page.step
        evaluations = _known_evaluations(run_dir, opened)
        if place.host.is_first:
            run_folder.write_settings(run_dir, config, opened.data.manifest)
            checkpoints.remove_unfinished(run_dir)
            summaries.forget_after(run_dir, step, opened.is_resumed, step in evaluations)
        with contextlib.ExitStack() as stack:
            silent = not place.host.is_first
            progress = Progress(step, opened.total_steps, is_silent=silent)
            stack.enter_context(contextlib.closing(progress))
            writers = summaries.make_writers(run_dir, is_silent=silent)
            for writer in writers.all():
                stack.callback(_close, writer)
            stack.callback(telling.end_profile)
            request = stack.enter_context(noticing_signals())
            for line in (*opened.notes, _opening_line(opened)):
                progress.say(line)
            run = Run(
                opened,
                run_dir,
                make_eval_step(opened.model, opened.data.label_map.num_classes, place.strategy),
                functools.cache(functools.partial(_validation, opened)),
                None if silent else validation.panel_examples(opened),
                pictures.palette(opened.data.label_map, opened.data.manifest.colours),
                evaluations,
                started_s - _seconds_before(run_dir, opened),
                writers,
                progress,
                request,
            )
            telling.introduce(run)
            _run_to_the_end(run)
            summaries.write_end(writers.run)


def _validation(opened: Opened, known: tuple[int, ...]) -> Iterable:
    place = opened.place
    dataset = data_set.validation_batches(opened.config, opened.data, place.host, known)
    return data_set.distribute(place.strategy, dataset)


def _close(writer: tf.summary.SummaryWriter) -> None:
    # A disk that is full has been told of; what is not flushed will be told again.
    with contextlib.suppress(tf.errors.OpError):
        writer.close()


def examine(config: Config, seconds: float) -> tuple[Figures, Diagnosis]:
    """Measures what would limit training with these settings, without a run folder.

    Args:
      config: the settings.
      seconds: how long each stage is measured, at least.

    Raises:
      UserError: a setting or the data set is wrong.
    """
    config_lib.validate(config)
    if config.data.feature_cache_dir:
        raise UserError(f"{SETTING}: the doctor looks at training on images; leave it out")
    config = config_lib.spell_out(config)
    opened = opening.open_run(config, None, opening.find_place(config))
    return _examine(opened, opened.learner, 0, seconds)


def _examine(
    opened: Opened, current: Learner, step: int, seconds: float
) -> tuple[Figures, Diagnosis]:
    config, data = opened.config, opened.data

    def run_step(iterator: Iterator) -> None:
        _call(current, iterator, step, 1, 1.0)

    figures = doctor.measure(
        data.shards(data.train),
        lambda: data_set.training_batches(config, data, step, opened.place.host),
        run_step,
        lambda dataset: data_set.distribute(opened.place.strategy, dataset),
        current.state.variables(),
        batch_size=config.data.batch_size,
        seconds=seconds,
        is_bfloat16_faster=config.devices.precision == "float32" and precision.is_bfloat16_faster(),
        short_side=min(data.train.mean_height, data.train.mean_width),
        image_size=config.data.image_size,
    )
    return figures, doctor.diagnose(figures)


def _opening_line(opened: Opened) -> str:
    config, data, place = opened.config, opened.data, opened.place
    hosts = f" on {place.host.count} hosts" if place.host.count > 1 else ""
    return (
        f"{'resuming' if opened.is_resumed else 'starting'} at step {opened.page.step} of "
        f"{opened.total_steps}: {config.model.head}, {data.train.records:,} training and "
        f"{data.validation.records:,} validation images, batches of {config.data.batch_size} "
        f"over {place.strategy.num_replicas_in_sync} replica(s){hosts}"
    )


def _known_evaluations(run_dir: str, opened: Opened) -> dict[int, dict]:
    """Figures by step, up to where the run goes on."""
    if not opened.is_resumed:
        return {}
    known = run_folder.read_evaluations(run_dir)
    return {step: found for step, found in known.items() if step <= opened.page.step}


def _seconds_before(run_dir: str, opened: Opened) -> float:
    """How long it took to come to where the run goes on, as far as it is known."""
    known = run_folder.read_seconds(run_dir) if opened.is_resumed else {}
    return max((s for step, s in known.items() if step <= opened.page.step), default=0.0)


@contextlib.contextmanager
def _naming_faults(config: Config, hosts: int) -> Iterator[None]:
    """TensorFlow's errors of input and network as one line for the user."""
    try:
        yield
    except tf.errors.DataLossError as error:
        raise FaultFound(_name_damaged_shard(config, error)) from error
    except tf.errors.NotFoundError as error:
        where = " on a worker of the service" if config.data.service_address else ""
        raise FaultFound(f"a shard has gone{where}: {error.message}") from error
    except _LOST as error:
        if hosts == 1:
            raise
        reason = " ".join(error.message.split())[:200]
        raise FaultFound(
            f"another host has gone ({reason}); start the same command on all hosts again: "
            "they go on from the last checkpoint"
        ) from error


def _name_damaged_shard(config: Config, error: tf.errors.DataLossError) -> str:
    places = {
        "config.data.dir": (config.data.dir, "convert it again"),
        SETTING: (config.data.feature_cache_dir, "delete the folder, to have it made again"),
    }
    for setting, (folder, remedy) in places.items():
        if folder:
            splits = manifest.read_manifest(folder).splits.values()
            for fault in manifest.check_shards(folder, splits, hashes=True):
                return f"{setting}: {fault}; {remedy}"
    return f"a shard is damaged: {error.message}"


def _run_to_the_end(run: Run) -> None:
    """All steps that are left, with host work only between calls of the graph."""
    opened = run.opened
    page = opened.page
    course = Course(page.step, opened.learner, Window(page.window))
    try:
        _catch_up(run, course)
        if course.step >= opened.total_steps:
            return
        _consult_doctor(run, course)
        iterator = _training_iterator(run, course)
        course.window.restart_clock()
        while course.step < opened.total_steps:
            if _enter_stage(run, course) and run.config.data.feature_cache_dir:
                iterator = _training_iterator(run, course)  # another stage knows other pools
            _heed_others(run, course)
            _advance(run, course, iterator)
    except StopNow:
        run.request.heard.set()
        if course.step != page.step or not opened.is_resumed:
            _save(run, course)
        number = run.request.signal or signal.SIGTERM  # which another host got
        raise StoppedBySignal(
            number, f"at step {course.step}, saved; the same command goes on from there"
        ) from None


def _catch_up(run: Run, course: Course) -> None:
    """What belongs to the present step and a stop may have cut short."""
    step, place = course.step, run.opened.place
    # The first host's word counts: others may see an older state of a shared disk.
    (is_known,) = place.agree([float(place.host.is_first and step in run.evaluations)])
    if _is_due(run, step) and not is_known:
        validation.evaluate(run, course)
    validation.note_metrics(run, step)


def _consult_doctor(run: Run, course: Course) -> None:
    """Says before the first step what will limit training."""
    seconds = run.config.train.doctor_seconds
    # Hosts that measure for a time, not for a number of steps, would lose each other; and
    # what is said of images does not hold for features.
    if not seconds or run.opened.place.host.count > 1 or run.config.data.feature_cache_dir:
        return
    _, diagnosis = _examine(run.opened, course.learner, course.step, seconds)
    run.progress.say(diagnosis.text())
    summaries.write_text(run.writers.train, course.step, summaries.DOCTOR, diagnosis.text())


def _training_iterator(run: Run, course: Course) -> Iterator:
    opened, step = run.opened, course.step
    known = learner.known_blocks(run.config, opened.model, course.learner.span)
    dataset = data_set.training_batches(run.config, opened.data, step, opened.place.host, known)
    return iter(data_set.distribute(opened.place.strategy, dataset))


def _heed_others(run: Run, course: Course) -> None:
    """Stops if any host wants it, saves if the first does; what varies becomes the same."""
    place, minutes = run.opened.place, run.config.train.save_every_minutes
    is_first = place.host.is_first
    is_late = minutes > 0 and time.monotonic() - course.saved_s > 60 * minutes
    stop, save, factor, step_s = place.agree(
        [
            float(run.request.signal is not None),
            float(is_first and is_late),
            _rate_factor(run, course) if is_first else 0.0,
            course.step_s,
        ]
    )
    if stop:
        raise StopNow
    if save:
        _save(run, course)
    course.rate_factor, course.step_s = factor, step_s / place.host.count


def _enter_stage(run: Run, course: Course) -> bool:
    """Begins the stage that the step belongs to; says whether it is another one."""
    span = learner.span_at(run.opened.spans, course.step)
    if span.index == course.learner.span.index:
        return False
    opened = run.opened
    course.learner = learner.make_learner(
        run.config,
        opened.model,
        opened.averages,
        opened.place.strategy,
        span,
        opened.data.class_weights,
    )
    course.calls = 0
    run.progress.say(
        f"step {course.step}: {span.stage.trained} trained from here on, learning rate "
        f"{span.stage.learning_rate:g}"
    )
    return True


def _advance(run: Run, course: Course, iterator: Iterator) -> None:
    """One call of the graph, and what is due after it."""
    telling.profile(run, course.step)
    count = _steps_of_call(run, course)
    started_s = time.perf_counter()
    rows, gradients = _call(course.learner, iterator, course.step, count, course.rate_factor)
    course.step_s = (time.perf_counter() - started_s) / count
    course.calls += 1
    _check_finite(run, course, rows)
    course.window.add(rows, rows.pop("wait_s").sum())
    course.loss_sum += float(rows["loss/total"].sum())
    course.loss_steps += count
    course.step += count
    run.progress.advance(count)
    if course.step % run.config.train.log_every_steps == 0:
        _log(run, course)
    if _is_due(run, course.step):
        telling.tell_histograms(run, course, gradients)
        _save(run, course)
        validation.evaluate(run, course)
        validation.note_metrics(run, course.step)
        course.window.restart_clock()


def _call(
    current: Learner, iterator: Iterator, step: int, count: int, factor: float
) -> tuple[dict[str, np.ndarray], list[tf.Tensor]]:
    # As arrays: TensorFlow keeps each Python number that it is given for ever (744 bytes).
    rows, gradients = current.train_steps(
        iterator,
        tf.constant(np.array(step, np.int64)),
        tf.constant(np.array(current.span.first_step, np.int64)),
        tf.constant(np.array(count, np.int32)),
        tf.constant(np.array(factor, np.float32)),
    )
    return {name: values.numpy() for name, values in rows.items()}, gradients


def _steps_of_call(run: Run, course: Course) -> int:
    """How many steps to take before the host has work to do, in about a second."""
    # The first call compiles, and the second one tells how long a step takes.
    most = int(_CALL_S / course.step_s) if course.calls >= 2 else 1
    every = run.config.train.log_every_steps
    end = min(course.step + max(most, 1), course.learner.span.end_step)
    end = min(end, (course.step // every + 1) * every)
    end = min([end, *(step for step in run.config.train.profile_steps if step > course.step)])
    return next((s for s in range(course.step + 1, end) if _is_due(run, s)), end) - course.step


def _rate_factor(run: Run, course: Course) -> float:
    settings, span = run.config.optimizer, course.learner.span
    if settings.schedule != "plateau":
        return 1.0
    scores = [
        named_values(figures).get(run.config.train.best_metric, math.nan)
        for step, figures in sorted(run.evaluations.items())
        if span.first_step < step <= course.step
    ]
    return schedules.plateau_factor(scores, settings.patience_evaluations, settings.drop_factor)


def _is_due(run: Run, step: int) -> bool:
    """Whether a checkpoint and an evaluation belong to this step.

    They belong to the start, to the step that completes each interval of epochs
    (counted from the start, so that rounding does not add up), and to each stage's end.
    """
    batch_size, train = run.config.data.batch_size, run.config.train
    interval_images = train.evaluate_every_epochs * run.opened.data.train.records

    def intervals(steps: int) -> int:
        return int(steps * batch_size / interval_images)

    at_an_end = step == 0 or any(step == span.end_step for span in run.opened.spans)
    return at_an_end or intervals(step) > intervals(step - 1)


def _check_finite(run: Run, course: Course, rows: dict[str, np.ndarray]) -> None:
    """Stops at the first step whose loss, or gradient, is not finite."""
    # With loss scaling a gradient may overflow: that step was left out, with a lower scale.
    is_scaled = course.learner.state.has_loss_scale
    good = np.isfinite(rows["loss/total"])
    good = good if is_scaled else good & (rows["finite"] > 0)
    if good.all():
        return
    place = int(np.argmin(good))
    loss = rows["loss/total"][place]
    what = f"the loss is {loss}" if not np.isfinite(loss) else "the gradient is not finite"
    raise _diverged(run, course, what, course.step + place)


def _diverged(run: Run, course: Course, what: str, step: int) -> FaultFound:
    """A fault in the batch after `step` steps."""
    data, settings = run.opened.data, run.config.data
    rate = course.rate_factor * _scheduled_rate(course.learner, step)
    if settings.service_address or not settings.deterministic or settings.share_files:
        images = "images unknown, as their order varies"
    else:
        views = data.features.train if data.features else (data.shards(data.train),)
        names = pipeline.names_in_batch(
            views,
            shuffle_records=settings.shuffle_records,
            seed=run.config.train.seed,
            step=step,
            batch_size=settings.batch_size,
        )
        images = f"images {', '.join(names)}"
    return FaultFound(
        f"{what} at step {step + 1} (learning rate {rate:.2g}; {images}); the last checkpoint "
        "is untouched; try a smaller --config.train.learning_rate or "
        "--config.optimizer.clip_norm=1"
    )


def _scheduled_rate(current: Learner, step: int) -> float:
    return float(current.schedule(tf.constant(np.array(step - current.span.first_step))))


def _log(run: Run, course: Course) -> None:
    """A point on each training curve."""
    values = course.window.close(run.config.data.batch_size)
    # A gradient that overflowed has no length.
    is_all_finite = values.pop("finite") == 1.0
    values["rate/gradient_norm"] = values.pop("gradient_norm")
    if not is_all_finite:
        del values["rate/gradient_norm"]
    scheduled = _scheduled_rate(course.learner, course.step - 1)
    values["rate/learning_rate"] = course.rate_factor * scheduled
    if course.learner.state.has_loss_scale:
        values["rate/loss_scale"] = float(course.learner.state.counts["loss_scale"].numpy())
    told = f"loss {values['loss/total']:.4f}  {values['input/images_per_second']:.1f} images/s"
    if run.config.devices.deterministic_ops:  # there was no clock
        del values["input/input_wait_fraction"]
    else:
        told += f"  input wait {values['input/input_wait_fraction']:.0%}"
    with telling.writing(f"the curves of step {course.step}"):
        summaries.write_scalars(run.writers.train, course.step, values)
    run.progress.show(course.step, told)


def _save(run: Run, course: Course) -> None:
    """Saves a checkpoint, unless the weights have become useless."""
    if not all(np.isfinite(w.numpy()).all() for w in course.learner.state.weights):
        raise _diverged(run, course, "the weights are not finite", course.step - 1)
    course.saved_s = time.monotonic()
    if not run.opened.place.host.is_first:
        return
    opened, train = run.opened, run.config.train
    variables = learner.model_variables(opened.model, opened.averages)
    variables |= learner.stage_variables(course.learner)
    about = opening.page_about(opened, course.step)
    page = Page(course.step, about, course.window.sums, {})
    with telling.writing(f"step {course.step}"):
        # What a run tells again after a kill is what comes after its checkpoint.
        run.writers.train.flush()
        checkpoints.save(variables, run.workdir, page)
        checkpoints.remove_old(run.workdir, course.step, train.keep_checkpoints, train.best_metric)
