"""The training loop, the same for every strategy.

A call of the compiled graph takes several steps: up to the next point of the curves, the next
evaluation, or about a second, so that a signal is noticed in time.
"""

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from typing import NoReturn

import numpy as np
import tensorflow as tf
from etils import epath

from petseg import config_json, config_rules
from petseg.config import Config
from petseg.devices import describe_devices
from petseg.errors import FaultFound, StoppedBySignal
from petseg.metrics.measure import named_values
from petseg.models import summary
from petseg.progress import Progress, print_line
from petseg.run_dir import checkpoints, evaluations, run_folder
from petseg.training import (
    bottleneck,
    distribution,
    faults,
    run_lines,
    run_summary,
    schedules,
    setup,
    stages,
    tensorboard,
)
from petseg.training.curves import CurveWindow
from petseg.training.setup import RunSetup
from petseg.training.signals import StopNow, StopRequest, noticing_signals
from petseg.training.tensorboard import Description, TensorBoard
from petseg.training.validation import Validator
from petseg.visualization import pictures

_CALL_S = 1.0
_nothing = contextlib.nullcontext()


def train_and_evaluate(config: Config, run_dir: str, grace_s: float | None = None) -> None:
    """Trains, evaluates and saves; resumes a run that was stopped in `run_dir`.

    Args:
      config: The settings.
      run_dir: The run folder.
      grace_s: Seconds after a signal in which a step must end, or the process does; None waits
        as long as it takes, as in a notebook.

    Raises:
      UserError: A setting, the data set or the run folder is wrong.
      FaultFound: A shard is damaged or gone, the loss is not finite, a checkpoint cannot be
        written, or another host is gone.
      StoppedBySignal: SIGINT or SIGTERM came; the step was finished and saved.
    """
    started_s = time.monotonic()
    config_rules.validate(config)
    config = config_json.spell_out(config)
    run_folder.check_is_ours(run_dir)  # before hosts wait for each other
    devices = setup.choose_devices(config)
    with faults.in_one_line(config, devices.host_count), contextlib.ExitStack() as stack:
        if devices.is_first_host:
            print_line(describe_devices(devices))
            stack.enter_context(run_folder.claim(run_dir))
        run = setup.prepare_run(config, run_dir, devices)
        figures = _earlier_figures(run, run_dir)
        if devices.is_first_host:
            run_folder.write_settings(run_dir, run.config, run.data.manifest)
            checkpoints.remove_unfinished(run_dir)
            is_evaluated = run.metadata.step in figures
            tensorboard.forget_after(run_dir, run.metadata.step, run.is_resumed, is_evaluated)
        is_silent, step = not devices.is_first_host, run.metadata.step
        progress = stack.enter_context(
            Progress(
                *(step, run.total_steps), title="train", unit="step", is_silent=is_silent,
                epoch=run.epoch,
            )
        )  # fmt: skip
        events = stack.enter_context(contextlib.closing(TensorBoard(run_dir, is_silent=is_silent)))
        request = stack.enter_context(noticing_signals(grace_s))
        events.log_start(step + 1 if run.is_resumed else 0, step + (step in figures))
        began_s = started_s - _earlier_seconds(run, run_dir)
        Trainer(run, run_dir, events, progress, request, figures, began_s).run()


class Trainer:
    """The state of a run in training, and its loop.

    Attributes:
      step: Number of steps taken.
      stage: The current stage, with all that training changes.
    """

    def __init__(
        self,
        run: RunSetup,
        run_dir: str,
        events: TensorBoard,
        progress: Progress,
        request: StopRequest,
        figures: dict[int, dict],
        began_s: float,
    ):
        """Continues from where `run` was restored.

        Args:
          run: The run.
          run_dir: Its folder.
          events: Writes curves, figures and pictures.
          progress: Prints lines for the user.
          request: Whether a signal asks the run to stop.
          figures: Of the evaluations so far, by step.
          began_s: Monotonic time at which the run began, had it never been stopped.
        """
        self.step = run.metadata.step
        self.stage = run.stage
        self._run, self._run_dir, self._loop = run, run_dir, run.loop
        self._events, self._progress, self._request = events, progress, request
        self._figures, self._began_s = figures, began_s
        self._devices = run.devices
        self._validator = Validator(run, self._any_host_stops)
        self._palette = pictures.palette(run.data.label_map, run.data.manifest.colours)
        self._window = CurveWindow(run.metadata.curve_sums)
        self._calls = 0  # of the graph, in this stage
        self._step_s = 0.0  # of the last call, the same on all hosts
        self._rate_factor = 1.0  # the same on all hosts
        self._saved_s = time.monotonic()
        self._losses: list[float] = []  # of the steps since the last evaluation
        self._warned: list[str] = []  # at the last evaluation

    def run(self) -> None:
        """Takes all remaining steps."""
        run = self._run
        for line in (*run.notes, run_lines.first_line(run, self.step)):
            self._progress.print_line(line)
        self._describe_run()
        try:
            self._finish_current_step()
            if self.step < run.total_steps:
                self._report_bottleneck()
                batches = self._training_batches()
                self._window.restart_clock()
                while self.step < run.total_steps:
                    # Another stage may need features of other encoder stages.
                    if self._enter_stage() and not run.batches.has_images:
                        batches = self._training_batches()
                    self._agree_with_other_hosts()
                    self._advance(batches)
            self._events.end_run()
            if self._devices.is_first_host:
                figures = self._figures
                for line in run_lines.last_lines(self._run_dir, run.config, self.step, figures):
                    self._progress.print_line(line)
        except StopNow:
            self._stop()

    def _finish_current_step(self) -> None:
        """Does what is due at the current step and a stop may have prevented."""
        # The first host decides: others may have an older view of a shared disk.
        mine = float(self._devices.is_first_host and self.step in self._figures)
        (is_evaluated,) = self._devices.agree([mine])
        if self._is_due(self.step) and not is_evaluated:
            self._evaluate()
        self._add_metrics_to_checkpoint()

    def _training_batches(self) -> Iterator:
        dataset = self._run.batches.train(self.stage.trainable, self.step)
        return iter(distribution.distribute(self._devices, dataset))

    def _enter_stage(self) -> bool:
        """Begins the stage that the next step belongs to; whether it is another one."""
        planned = stages.stage_at(self._run.planned, self.step)
        if planned.index == self.stage.planned.index:
            return False
        self.stage = self._run.make_stage(planned)
        self._calls = 0
        self._progress.print_line(
            f"step {self.step}: training {planned.stage.trainable} from here on, learning rate "
            f"{planned.stage.learning_rate:g}"
        )
        return True

    def _agree_with_other_hosts(self) -> None:
        """Stops if any host must, saves if the first one does; what varies becomes the same."""
        minutes, is_first = self._loop.save_every_minutes, self._devices.is_first_host
        is_late = minutes > 0 and time.monotonic() - self._saved_s > 60 * minutes
        stop, save, factor, step_s = self._devices.agree(
            [
                float(self._request.signal is not None),
                float(is_first and is_late),
                self._plateau_factor() if is_first else 0.0,
                self._step_s,
            ]
        )
        if stop:
            raise StopNow
        if save:
            self._save()
        self._rate_factor, self._step_s = factor, step_s / self._devices.host_count

    def _any_host_stops(self) -> bool:
        (stop,) = self._devices.agree([float(self._request.signal is not None)])
        return stop > 0

    def _advance(self, batches: Iterator) -> None:
        """One call of the graph, and what is due after it."""
        loop = self._loop
        if self._events.profile(self.step, loop.profile_steps):
            first, end = loop.profile_steps
            self._progress.print_line(f"step {self.step}: profiled {end - first} steps")
        count = self._steps_of_next_call()
        started_s = time.perf_counter()
        compiling = "compiling the training step"
        with _nothing if self._calls else self._progress.during(compiling):
            rows, gradients = self.stage.train(batches, self.step, count, self._rate_factor)
        self._step_s = (time.perf_counter() - started_s) / count
        self._calls += 1
        self._check_finite(rows)
        self._window.add(rows, rows.pop("wait_s").sum())
        self._losses += rows["loss/total"].tolist()
        self.step += count
        self._progress.advance(count)
        if self.step % loop.log_every_steps == 0:
            self._log()
        if self._is_due(self.step):
            self._write_histograms(gradients)
            self._save()
            self._evaluate()
            self._add_metrics_to_checkpoint()
            self._window.restart_clock()

    def _steps_of_next_call(self) -> int:
        """How many steps to take before the host has work to do, in about a second."""
        # The first call compiles, and the second one shows how long a step takes.
        most = int(_CALL_S / self._step_s) if self._calls >= 2 else 1
        step, every = self.step, self._loop.log_every_steps
        end = min(step + max(most, 1), self.stage.planned.end_step)
        end = min(end, (step // every + 1) * every)
        end = min([end, *(other for other in self._loop.profile_steps if other > step)])
        return next((s for s in range(step + 1, end) if self._is_due(s)), end) - step

    def _is_due(self, step: int) -> bool:
        """Whether a checkpoint and an evaluation belong to this step.

        They belong to the start, to the step that completes each interval of epochs (counted
        from the start, so that rounding does not add up), and to each stage's end.
        """
        batch_size = self._run.data.options.batch_size
        interval_images = self._loop.evaluate_every_epochs * self._run.data.train.records

        def intervals(steps: int) -> int:
            return int(steps * batch_size / interval_images)

        is_border = step == 0 or any(step == planned.end_step for planned in self._run.planned)
        return is_border or intervals(step) > intervals(step - 1)

    def _log(self) -> None:
        """Adds a point to each training curve."""
        values = self._window.close(self._run.data.options.batch_size)
        # The gradient of an overflow has no norm.
        is_all_finite = values.pop("finite") == 1.0
        values["rate/gradient_norm"] = values.pop("gradient_norm")
        if not is_all_finite:
            del values["rate/gradient_norm"]
        scheduled = self.stage.scheduled_rate(self.step - 1)
        values["rate/learning_rate"] = self._rate_factor * scheduled
        if self.stage.state.has_loss_scale:
            values["rate/loss_scale"] = float(self.stage.state.counts["loss_scale"].numpy())
        speed = f"{values['input/images_per_second']:.1f} images/s"
        figures = [f"loss {values['loss/total']:.4f}", speed]
        if self._run.options.is_deterministic:  # there was no clock
            del values["input/input_wait_fraction"]
        else:
            figures.append(f"input wait {values['input/input_wait_fraction']:.0%}")
        self._events.training_scalars(self.step, values)
        self._progress.show(*figures)

    def _write_histograms(self, gradients: list[tf.Tensor]) -> None:
        """The decoder's weights, and their gradients of the last step."""
        if not self._run.options.returns_gradients:
            return
        weights = self.stage.decoder_weights
        values = {f"weights/{w.path}": w.numpy() for w in weights}
        for weight, gradient in zip(weights, gradients, strict=True):
            values[f"gradients/{weight.path}"] = gradient.numpy()
        self._events.histograms(self.step, values)

    def _evaluate(self) -> None:
        """Evaluates the validation split; writes the figures and prints a line."""
        run, step = self._run, self.step
        with self._progress.during("scoring", self._validator.num_batches, "batches") as advance:
            result = self._validator.evaluate(step, advance)
        self._figures[step] = result.figures
        if self._devices.is_first_host:
            names = run.data.label_map.names
            panels = {tensorboard.PANEL: list(range(self._panel_images()))}
            if step == run.total_steps:
                worst = np.argsort(result.image_mean_ious, kind="stable")
                panels[tensorboard.WORST] = worst[: self._panel_images()].tolist()
            examples = {
                tag: self._validator.panel(indices, result.image_mean_ious[indices])
                for tag, indices in panels.items()
            }
            with tensorboard.writing(f"the evaluation of step {step}"):
                for tag, panel in examples.items():
                    self._events.panel(step, tag, panel, names, self._palette)
                self._events.evaluation(step, result.tags, result.confusion, names)
                evaluations.add_evaluation(self._run_dir, step, result.figures)
                seconds = time.monotonic() - self._began_s
                evaluations.add_seconds(self._run_dir, step, seconds)
        loss = f"loss {np.mean(self._losses):.4f}  " if self._losses else ""
        self._progress.print_line(f"{run.epoch(step)}  step {step}  {loss}{result.line()}")
        warnings = result.warnings() if step else []
        # What stays as it was is not said at every evaluation.
        for line in warnings:
            if line not in self._warned:
                self._progress.warn(line)
        self._warned = warnings
        self._losses = []

    def _panel_images(self) -> int:
        return min(self._loop.panel_images, self._run.data.validation.records)

    def _add_metrics_to_checkpoint(self) -> None:
        """Metrics go to the checkpoint's metadata, by which the best one is kept."""
        if not self._devices.is_first_host or self.step not in self._figures:
            return
        named = named_values(self._figures[self.step])
        checkpoints.add_metrics(self._run_dir, self.step, named)
        self._remove_old_checkpoints()

    def _remove_old_checkpoints(self) -> None:
        keep, metric = self._loop.keep_checkpoints, self._loop.best_metric
        checkpoints.remove_old(self._run_dir, self.step, keep, metric)

    def _save(self) -> None:
        """Saves a checkpoint, unless the weights have become useless."""
        if not all(np.isfinite(w.numpy()).all() for w in self.stage.state.weights):
            self._diverged("the weights are not finite", self.step - 1)
        self._saved_s = time.monotonic()
        if not self._devices.is_first_host:
            return
        run = self._run
        variables = stages.model_variables(run.model, run.averages)
        variables |= self.stage.checkpoint_variables()
        metadata = run.checkpoint_metadata(self.step, self._window.sums)
        with tensorboard.writing(f"step {self.step}"):
            # What a killed run writes again is what comes after its checkpoint.
            self._events.flush_train()
            checkpoints.save(variables, self._run_dir, metadata)
            self._remove_old_checkpoints()

    def _stop(self) -> NoReturn:
        """Saves and ends the run after a signal."""
        self._request.is_handled.set()
        if self.step != self._run.metadata.step or not self._run.is_resumed:
            self._save()
        number = self._request.signal or signal.SIGTERM  # which another host got
        raise StoppedBySignal(
            number, f"at step {self.step}, saved; the same command resumes from there"
        ) from None

    def _plateau_factor(self) -> float:
        loop, planned = self._loop, self.stage.planned
        if not loop.has_plateau:
            return 1.0
        scores = [
            named_values(figures).get(loop.best_metric, math.nan)
            for step, figures in sorted(self._figures.items())
            if planned.first_step < step <= self.step
        ]
        return schedules.plateau_factor(scores, loop.patience_evaluations, loop.drop_factor)

    def _check_finite(self, rows: dict[str, np.ndarray]) -> None:
        """Stops at the first step whose loss, or gradient, is not finite."""
        # With loss scaling a gradient may overflow: that step was skipped, with a lower scale.
        good = np.isfinite(rows["loss/total"])
        if not self.stage.state.has_loss_scale:
            good = good & (rows["finite"] > 0)
        if good.all():
            return
        index = int(np.argmin(good))
        loss = rows["loss/total"][index]
        what = f"the loss is {loss}" if not np.isfinite(loss) else "the gradient is not finite"
        self._diverged(what, self.step + index)

    def _diverged(self, what: str, step: int) -> NoReturn:
        """Raises a fault in the batch after `step` steps."""
        rate = self._rate_factor * self.stage.scheduled_rate(step)
        names = self._run.batches.names_in_batch(step)
        images = f"images {', '.join(names)}" if names else "images unknown, as their order varies"
        raise FaultFound(
            f"{what} at step {step + 1} (learning rate {rate:.2g}; {images}); the last checkpoint "
            "is untouched; try a smaller --config.train.learning_rate or "
            "--config.optimizer.clip_norm=1"
        )

    def _describe_run(self) -> None:
        """Writes for TensorBoard what the run is."""
        run = self._run
        if not self._devices.is_first_host:
            return
        layers = summary.describe_model(
            run.model,
            run.config.model.decoder,
            [one.stage.trainable for one in run.planned],
            run.data.options.batch_size,
        )
        self._events.describe_run(
            Description(
                name=epath.Path(self._run_dir).name,
                texts=run_summary.texts(run.config, run.data.manifest, layers, run.start_from),
                hparams=run_summary.hparams(run.config),
                columns=run_summary.hparam_columns(run.config),
                class_names=run.data.label_map.names,
                forward=run.model,
                image_size=run.data.options.image_size,
            )
        )

    def _report_bottleneck(self) -> None:
        """Reports before the first step what will limit training."""
        seconds = self._loop.bottleneck_seconds
        # Hosts that measure for a time, not for a number of steps, would lose each other; and
        # what holds of images does not hold of features.
        if not seconds or self._devices.host_count > 1 or not self._run.batches.has_images:
            return
        with self._progress.during("measuring what limits training"):
            _, diagnosis = bottleneck.examine_run(self._run, self.stage, self.step, seconds)
        self._progress.print_line(diagnosis.text())
        self._events.bottleneck(self.step, diagnosis.text())


def _earlier_figures(run: RunSetup, run_dir: str) -> dict[int, dict]:
    """Figures of evaluations by step, up to the step from which the run resumes."""
    known = evaluations.read_evaluations(run_dir) if run.is_resumed else {}
    return {step: figures for step, figures in known.items() if step <= run.metadata.step}


def _earlier_seconds(run: RunSetup, run_dir: str) -> float:
    """Seconds of training up to the step from which the run resumes, as far as is known."""
    known = evaluations.read_seconds(run_dir) if run.is_resumed else {}
    return max((s for step, s in known.items() if step <= run.metadata.step), default=0.0)
