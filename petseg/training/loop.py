"""The custom training loop: one step function for every strategy."""

import dataclasses
import time
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from petseg import config as config_lib
from petseg import inference, manifest
from petseg.config import Config
from petseg.errors import FaultFound, StoppedBySignal, UserError
from petseg.input_pipeline import batches, service, shard_cache, shard_reading
from petseg.input_pipeline.raw_values import raw_values
from petseg.input_pipeline.shard_reading import Shards
from petseg.label_map import LabelMap, parse_label_map
from petseg.manifest import Manifest, Split
from petseg.modeling import metrics
from petseg.modeling.vgg16_skip import SkipModel
from petseg.training import checkpoints, distribution, doctor, summaries, workdir
from petseg.training.doctor import Diagnosis, Figures
from petseg.training.progress import Progress
from petseg.training.stopping import StopNow, StopRequest, noticing_signals, until_stopped
from petseg.training.train_step import (
    TrainStep,
    make_schedule,
    make_train_step,
    trained_variables,
)


@dataclasses.dataclass(frozen=True)
class _Data:
    """The data set of a run, checked, and from where its shards are read."""

    manifest: Manifest
    label_map: LabelMap
    train: Split
    validation: Split
    folder: str

    def shards(self, split: Split) -> Shards:
        return shard_reading.shards_in(self.folder, split)


@dataclasses.dataclass(frozen=True)
class _Learner:
    """What is trained, how, and how far it has come."""

    model: SkipModel
    schedule: keras.optimizers.schedules.LearningRateSchedule
    train_step: TrainStep
    variables: list[keras.Variable]
    checkpoint: tf.train.Checkpoint
    first_step: int
    total_steps: int
    skipped: list[str]


@dataclasses.dataclass(frozen=True)
class _Run:
    """What every part of the loop needs."""

    config: Config
    workdir: str
    data: _Data
    strategy: tf.distribute.Strategy
    learner: _Learner
    eval_step: inference.EvalStep
    train_writer: tf.summary.SummaryWriter
    validation_writer: tf.summary.SummaryWriter
    progress: Progress
    request: StopRequest


def train_and_evaluate(config: Config, run_dir: str) -> None:
    """Trains, evaluates and saves; goes on where a run in `run_dir` ended.

    Raises:
      UserError: a setting, the data set or the run folder is wrong.
      FaultFound: a shard is damaged or has gone, or the loss is not finite.
      StoppedBySignal: SIGINT or SIGTERM came; the step was finished and saved.
    """
    config_lib.validate(config)
    config = config_lib.spell_out(config)
    data = _open_data(config)
    strategy = distribution.make_strategy(
        config.train.strategy, config.train.cpu_replicas, config.data.batch_size
    )
    changed = workdir.open_for_training(run_dir, config, data.manifest)
    learner = _make_learner(config, run_dir, data, strategy)
    progress = Progress(learner.first_step, learner.total_steps)
    for line in (*changed, *learner.skipped, _opening_line(config, data, strategy, learner)):
        progress.say(line)
    train_writer, validation_writer = summaries.make_writers(run_dir)
    with noticing_signals() as request:
        run = _Run(
            config,
            run_dir,
            data,
            strategy,
            learner,
            inference.make_eval_step(learner.model, data.label_map.num_classes, strategy),
            train_writer,
            validation_writer,
            progress,
            request,
        )
        try:
            _run_to_the_end(run)
        except tf.errors.DataLossError as error:
            raise FaultFound(_name_damaged_shard(config, data, error)) from error
        except tf.errors.NotFoundError as error:
            where = " on a worker of the service" if config.data.service_address else ""
            raise FaultFound(f"a shard has gone{where}: {error.message}") from error
        finally:
            train_writer.close()
            validation_writer.close()
            progress.close()


def examine(config: Config, seconds: float) -> tuple[Figures, Diagnosis]:
    """Measures what would limit training with these settings, without a run folder.

    Args:
      config: the settings.
      seconds: how long each stage is measured, at least.

    Raises:
      UserError: a setting or the data set is wrong.
    """
    config_lib.validate(config)
    config = config_lib.spell_out(config)
    data = _open_data(config)
    strategy = distribution.make_strategy(
        config.train.strategy, config.train.cpu_replicas, config.data.batch_size
    )
    learner = _make_learner(config, None, data, strategy)
    return _examine(config, data, strategy, learner, seconds)


def _examine(
    config: Config,
    data: _Data,
    strategy: tf.distribute.Strategy,
    learner: _Learner,
    seconds: float,
) -> tuple[Figures, Diagnosis]:
    step = tf.constant(learner.first_step, tf.int64)
    figures = doctor.measure(
        data.shards(data.train),
        lambda: _make_input(config, data, learner.first_step),
        lambda batch: learner.train_step(batch, step)["loss/total"].numpy(),
        strategy.experimental_distribute_dataset,
        learner.variables,
        batch_size=config.data.batch_size,
        seconds=seconds,
        short_side=min(data.train.mean_height, data.train.mean_width),
        image_size=config.data.image_size,
    )
    return figures, doctor.diagnose(figures)


def _make_learner(
    config: Config, run_dir: str | None, data: _Data, strategy: tf.distribute.Strategy
) -> _Learner:
    """Builds model, optimizer and step, with the run's newest weights if it has any."""
    resuming = run_dir is not None and bool(checkpoints.saved_steps(run_dir))
    images = config.train.epochs * data.train.records
    total_steps = max(1, int(images / config.data.batch_size))
    schedule = make_schedule(config.train.learning_rate, config.train.warmup_steps, total_steps)
    with strategy.scope():
        # A checkpoint holds the backbone too, so its weights file is read only once.
        weights = "none" if resuming else config.model.backbone_weights
        model = workdir.build_from_config(config, data.label_map.num_classes, weights)
        # Named, or a second run in one process would save its slots under other names.
        optimizer = keras.optimizers.Adam(schedule, name="adam")
        optimizer.build(trained_variables(model, config.model.freeze_backbone))
    variables = [*model.variables, *optimizer.variables]
    checkpoint = checkpoints.make_checkpoint(variables)
    step, skipped = checkpoints.restore_newest(checkpoint, run_dir) if resuming else (0, [])
    train_step = make_train_step(
        model,
        optimizer,
        strategy,
        loss=config.train.loss,
        freeze_backbone=config.model.freeze_backbone,
        dropout_rate=config.model.dropout_rate,
        global_batch=config.data.batch_size,
        seed=config.train.seed,
    )
    return _Learner(model, schedule, train_step, variables, checkpoint, step, total_steps, skipped)


def _open_data(config: Config) -> _Data:
    directory, cached = config.data.dir, config.data.cache != "none"
    if config.data.service_address:
        service.check_reachable(config.data.service_address)
    found = manifest.read_manifest(directory)
    splits = {name: found.split(name, directory) for name in ("train", "validation")}
    # A cache compares what it copies.
    hashes = config.data.verify_hashes and not cached
    if faults := manifest.check_shards(directory, splits.values(), hashes=hashes):
        raise UserError(f"config.data.dir: {faults[0]}; convert the data set again")
    label_map = parse_label_map(config.data.label_map)
    for split in splits.values():
        label_map.check_covers(raw_values(directory, split), directory)
    if cached:
        directory = shard_cache.cache_shards(
            directory, list(splits.values()), found.digest(), config.data.cache
        )
    return _Data(found, label_map, **splits, folder=directory)


def _opening_line(
    config: Config, data: _Data, strategy: tf.distribute.Strategy, learner: _Learner
) -> str:
    return (
        f"{'resuming' if learner.first_step else 'starting'} at step {learner.first_step} of "
        f"{learner.total_steps}: {config.model.head}, {data.train.records:,} training and "
        f"{data.validation.records:,} validation images, batches of {config.data.batch_size} "
        f"over {strategy.num_replicas_in_sync} replica(s)"
    )


def _run_to_the_end(run: _Run) -> None:
    """Steps, with host work only at log and evaluation steps."""
    learner, step = run.learner, run.learner.first_step
    if step == 0:
        text = config_lib.to_json(run.config)
        summaries.write_text(run.train_writer, 0, "config", text)
    try:
        # The untrained model's score, or one that a stop has cut short.
        if _is_due(run, step) and step not in workdir.read_evaluations(run.workdir):
            _evaluate(run, step)
        _consult_doctor(run)
        window = _Window()
        for batch in until_stopped(_training_batches(run, window), run.request):
            window.add(learner.train_step(batch, tf.constant(step, tf.int64)))
            step += 1
            run.progress.advance()
            if step % run.config.train.log_every_steps == 0:
                _log(run, step, window)
            if _is_due(run, step):
                _save(run, step)
                _evaluate(run, step)
                window.restart()
            if step == learner.total_steps:
                break
    except StopNow:
        _save(run, step)
        raise StoppedBySignal(
            run.request.signal, f"at step {step}, saved; the same command goes on from there"
        ) from None


def _consult_doctor(run: _Run) -> None:
    """Says before the first step what will limit training."""
    seconds = run.config.train.doctor_seconds
    if not seconds or run.learner.first_step >= run.learner.total_steps:
        return
    _, diagnosis = _examine(run.config, run.data, run.strategy, run.learner, seconds)
    run.progress.say(diagnosis.text())
    summaries.write_text(run.train_writer, run.learner.first_step, "input/doctor", diagnosis.text())


def _is_due(run: _Run, step: int) -> bool:
    """Whether a checkpoint and an evaluation belong to this step.

    They belong to the start, to the step that completes each interval of epochs
    (counted from the start, so that rounding does not add up), and to the end.
    """
    batch_size, train = run.config.data.batch_size, run.config.train
    interval_images = train.evaluate_every_epochs * run.data.train.records

    def intervals(steps: int) -> int:
        return int(steps * batch_size / interval_images)

    at_an_end = step in (0, run.learner.total_steps)
    return at_an_end or intervals(step) > intervals(step - 1)


class _Window:
    """What happened since the training curves got their last point."""

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        """Begins anew; what took the time until now does not count."""
        self._values: list[dict[str, tf.Tensor]] = []
        self._wait_s = 0.0
        self._started_s = time.perf_counter()

    def add_wait(self, seconds: float) -> None:
        """The loop stood still for its next batch."""
        self._wait_s += seconds

    def add(self, values: dict[str, tf.Tensor]) -> None:
        """One step's losses, still on the device."""
        self._values.append(values)

    def close(self, batch_size: int) -> dict[str, float]:
        """Means of the losses, and speeds, since the last restart; restarts."""
        means = {
            name: float(np.mean([values[name].numpy() for values in self._values]))
            for name in self._values[0]
        }
        elapsed_s = time.perf_counter() - self._started_s
        means["input/images_per_second"] = len(self._values) * batch_size / elapsed_s
        means["input/input_wait_fraction"] = self._wait_s / elapsed_s
        self.restart()
        return means


def _make_input(config: Config, data: _Data, start_step: int) -> tf.data.Dataset:
    settings = config.data
    return batches.make_for_train(
        data.shards(data.train),
        class_ids=data.label_map.class_ids(),
        image_size=settings.image_size,
        batch_size=settings.batch_size,
        shuffle_records=settings.shuffle_records,
        augmentation=config.augment,
        seed=config.train.seed,
        keep_aspect=settings.keep_aspect,
        start_step=start_step,
        service_address=settings.service_address,
        deterministic=settings.deterministic,
    ).with_options(batches.make_options(settings.input_threads, settings.ram_budget_mib))


def _training_batches(run: _Run, window: _Window) -> Iterator[dict[str, tf.Tensor]]:
    """Endless, from the first step on; tells the window how long each was waited for."""
    if run.learner.first_step >= run.learner.total_steps:
        return
    dataset = _make_input(run.config, run.data, run.learner.first_step)
    iterator = iter(run.strategy.experimental_distribute_dataset(dataset))
    window.restart()
    while True:
        before_s = time.perf_counter()
        batch = next(iterator)
        window.add_wait(time.perf_counter() - before_s)
        yield batch


def _log(run: _Run, step: int, window: _Window) -> None:
    learning_rate = float(run.learner.schedule(step))
    values = window.close(run.config.data.batch_size)
    if not np.isfinite(values["loss/total"]):
        raise _diverged(run, f"the loss is {values['loss/total']}", step)
    summaries.write_scalars(run.train_writer, step, {**values, "rate/learning_rate": learning_rate})
    run.progress.show(
        step,
        f"loss {values['loss/total']:.4f}  {values['input/images_per_second']:.1f} images/s  "
        f"input wait {values['input/input_wait_fraction']:.0%}",
    )


def _diverged(run: _Run, what: str, step: int) -> FaultFound:
    return FaultFound(
        f"{what} at step {step} (learning rate {float(run.learner.schedule(step)):.2g}); "
        "the last checkpoint is untouched; try a smaller --config.train.learning_rate in a "
        "new --workdir"
    )


def _save(run: _Run, step: int) -> None:
    """Saves a checkpoint, unless the weights have become useless since the last log."""
    trained = trained_variables(run.learner.model, run.config.model.freeze_backbone)
    if not all(np.isfinite(variable.numpy()).all() for variable in trained):
        raise _diverged(run, "the weights are not finite", step)
    try:
        checkpoints.save(
            run.learner.checkpoint, run.workdir, step, run.config.train.keep_checkpoints
        )
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "message", None) or str(error)
        raise FaultFound(f"--workdir: cannot save step {step}: {reason}") from error
    run.train_writer.flush()


def _evaluate(run: _Run, step: int) -> None:
    """Scores the validation split; tells TensorBoard, the run folder and the terminal."""
    dataset = _validation_batches(run)
    counted = inference.evaluate(
        run.eval_step,
        until_stopped(run.strategy.experimental_distribute_dataset(dataset), run.request),
        -(-run.data.validation.records // run.config.data.batch_size),
    )
    scores = metrics.score(counted.confusion)
    names = run.data.label_map.names
    shown = min(run.config.train.panel_images, run.data.validation.records)
    sample = inference.predict_sample(run.learner.model, dataset, shown)
    summaries.write_panel(run.validation_writer, step, *sample, names)
    summaries.write_evaluation(run.validation_writer, step, scores, names)
    run.validation_writer.flush()
    workdir.add_evaluation(
        run.workdir,
        step,
        {
            "mean_iou": scores.mean_iou,
            "iou": metrics.by_name(scores.iou, names),
            "pixel_accuracy": scores.pixel_accuracy,
        },
    )
    epoch = step * run.config.data.batch_size / run.data.train.records
    per_class = ", ".join(f"{name} {iou:.3f}" for name, iou in zip(names, scores.iou, strict=True))
    run.progress.say(
        f"epoch {epoch:.1f}  step {step}  validation mean IoU {scores.mean_iou:.4f} ({per_class})"
    )


def _validation_batches(run: _Run) -> tf.data.Dataset:
    return batches.make_for_eval(
        run.data.shards(run.data.validation).paths,
        class_ids=run.data.label_map.class_ids(),
        image_size=run.config.data.image_size,
        batch_size=run.config.data.batch_size,
        keep_aspect=run.config.data.keep_aspect,
    )


def _name_damaged_shard(config: Config, data: _Data, error: tf.errors.DataLossError) -> str:
    faults = manifest.check_shards(config.data.dir, (data.train, data.validation), hashes=True)
    return f"config.data.dir: {faults[0] if faults else error.message}; convert it again"
