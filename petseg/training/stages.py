"""The stages of a run: when each begins and ends, and how it trains."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from petseg.config import Stage
from petseg.errors import UserError
from petseg.image_size import ImageSize
from petseg.input_pipeline.truth import TruthOptions
from petseg.losses.terms import are_faster_fused
from petseg.models.segmentation_model import DECODER, SegmentationModel
from petseg.run_dir.checkpoints import CheckpointMetadata
from petseg.run_dir.trained_model import average_name
from petseg.training import cpu_speed, gradients, schedules, train_step
from petseg.training import state as state_lib
from petseg.training.gradients import BatchShares, LossOptions
from petseg.training.optimizers import Optimizer
from petseg.training.schedules import Schedule, ScheduleOptions
from petseg.training.state import State
from petseg.training.train_step import StepOptions, TrainSteps

_MOST_STEPS = 10**12


@dataclasses.dataclass(frozen=True)
class StageSchedule:
    """When a stage takes place.

    Attributes:
      index: Of the stage, from 0.
      stage: What is trained, and how fast.
      first_step: The step that it begins with.
      end_step: The first step after it.
    """

    index: int
    stage: Stage
    first_step: int
    end_step: int

    @property
    def steps(self) -> int:
        """Number of its steps."""
        return self.end_step - self.first_step


def plan_stages(stages: Sequence[Stage], records: int, batch_size: int) -> list[StageSchedule]:
    """When each stage begins and ends; a stage has at least one step.

    Args:
      stages: In order.
      records: Images in the training split.
      batch_size: The global batch.

    Raises:
      UserError: There are more steps than can be counted.
    """
    planned, images, first = [], 0.0, 0
    for index, stage in enumerate(stages):
        # Counted from the start of the run, so that rounding does not add up.
        images += stage.epochs * records
        if not images / batch_size <= _MOST_STEPS:
            raise UserError(
                f"config.train: {stage.epochs:g} epochs of {records:,} images in batches of "
                f"{batch_size} are more than {_MOST_STEPS:,} steps; to train until you stop it, "
                "name fewer epochs and raise them when the run is resumed"
            )
        end = max(first + 1, int(images / batch_size))
        planned.append(StageSchedule(index, stage, first, end))
        first = end
    return planned


def stage_at(planned: Sequence[StageSchedule], step: int) -> StageSchedule:
    """The stage of the step after `step` steps: at a border, the one that begins."""
    return next((one for one in planned if step < one.end_step), planned[-1])


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """What all stages of a run have in common.

    Attributes:
      losses: What is minimised.
      truth: What is made of a batch's masks.
      shares: How a global batch is cut.
      optimizer: How weights follow gradients.
      schedule: How the learning rate changes within a stage.
      encoder_rate_factor: Factor of the learning rate for the encoder's weights.
      clip_norm: Greatest norm of the gradient; 0 does not clip.
      average_decay: Decay of the moving averages; 0 keeps none.
      seed: Seed of the dropout.
      image_size: Of the images, in pixels.
      has_loss_scale: Whether gradients are scaled for float16.
      xla: Whether forward and backward computation are compiled by XLA.
      is_deterministic: Whether only operations with the same bits each time are used.
      has_gpu: Whether GPUs compute.
      returns_gradients: Whether a call returns the decoder's gradients, for histograms.
    """

    losses: LossOptions
    shares: BatchShares
    optimizer: Optimizer
    schedule: ScheduleOptions
    truth: TruthOptions = dataclasses.field(default_factory=TruthOptions)
    encoder_rate_factor: float = 1.0
    clip_norm: float = 0.0
    average_decay: float = 0.0
    seed: int = 0
    image_size: ImageSize = 224
    has_loss_scale: bool = False
    xla: bool = False
    is_deterministic: bool = False
    has_gpu: bool = False
    returns_gradients: bool = False


class StageTrainer:
    """A model within one stage: the state that training changes, and its compiled steps.

    Attributes:
      planned: When the stage takes place.
      trainable: What it trains.
      state: All that training changes.
    """

    def __init__(
        self,
        planned: StageSchedule,
        model: SegmentationModel,
        averages: Mapping[str, tf.Variable],
        strategy: tf.distribute.Strategy,
        options: TrainingOptions,
    ):
        """Compiles the steps of a stage; its optimizer starts from zero.

        Args:
          planned: When the stage takes place.
          model: Whose weights are trained.
          averages: Moving averages by the weight's path; empty if the run keeps none.
          strategy: Whose replicas share a batch.
          options: See TrainingOptions.
        """
        self.planned = planned
        self.trainable = planned.stage.trainable
        weights = model.trainable_weights(planned.stage.trainable)
        decoder = {id(weight) for weight in model.trainable_weights(DECODER)}
        self.decoder_weights = [weight for weight in weights if id(weight) in decoder]
        is_decoder = [id(weight) in decoder for weight in weights]
        with strategy.scope():
            self.state: State = state_lib.make_state(
                weights,
                [1.0 if is_one else options.encoder_rate_factor for is_one in is_decoder],
                [averages[weight.path] for weight in weights] if averages else [],
                options.optimizer,
                options.has_loss_scale,
            )
        self._schedule: Schedule = schedules.make_schedule(
            options.schedule, peak=planned.stage.learning_rate, steps=planned.steps
        )
        self._train_steps: TrainSteps = train_step.make_train_steps(
            self.state,
            _make_gradients(model, weights, planned, options),
            options.optimizer,
            self._schedule,
            strategy,
            StepOptions(
                loss_terms=list(options.losses.terms),
                truth=options.truth,
                clip_norm=options.clip_norm,
                average_decay=options.average_decay,
                seed=options.seed,
                is_timed=not options.is_deterministic,
                returned_gradients=[index for index, is_one in enumerate(is_decoder) if is_one]
                if options.returns_gradients
                else (),
            ),
        )

    def train(
        self, batches: Iterator, step: int, count: int, rate_factor: float = 1.0
    ) -> tuple[dict[str, np.ndarray], list[tf.Tensor]]:
        """Takes `count` steps after `step` steps in one call of the graph; see TrainSteps."""
        # As arrays: TensorFlow keeps each Python number that it is given forever (744 bytes).
        rows, decoder_gradients = self._train_steps(
            batches,
            tf.constant(np.array(step, np.int64)),
            tf.constant(np.array(self.planned.first_step, np.int64)),
            tf.constant(np.array(count, np.int32)),
            tf.constant(np.array(rate_factor, np.float32)),
        )
        return {name: values.numpy() for name, values in rows.items()}, decoder_gradients

    def scheduled_rate(self, step: int) -> float:
        """The learning rate of the step after `step` steps."""
        return float(self._schedule(tf.constant(np.array(step - self.planned.first_step))))

    def checkpoint_variables(self, *, has_loss_scale: bool = True) -> dict[str, tf.Variable]:
        """What a checkpoint holds of the stage's optimizer, by name.

        Args:
          has_loss_scale: With the variables of loss scaling, if the stage has any.
        """
        state, prefix = self.state, f"stage{self.planned.index}"
        slots = {
            f"{prefix}/{name}/{weight.path}": slot
            for name, column in state.slots.items()
            for weight, slot in zip(state.weights, column, strict=True)
        }
        counts = {
            f"{prefix}/{name}": count
            for name, count in state.counts.items()
            if has_loss_scale or name not in state_lib.LOSS_SCALE
        }
        return {**slots, **counts}


def _make_gradients(
    model: SegmentationModel,
    weights: Sequence[keras.Variable],
    planned: StageSchedule,
    options: TrainingOptions,
) -> gradients.Gradients:
    compile_losses = False
    if not options.has_gpu:
        model = cpu_speed.upsample_by_matmul(model)
        images = planned.steps * options.shares.global_batch
        # Whether XLA's sums are the same bits each time is not known.
        compile_losses = (
            not options.is_deterministic
            and are_faster_fused(options.losses.terms)
            and cpu_speed.is_worth_compiling(images, options.image_size)
        )
    return gradients.make_gradients(
        model,
        weights,
        options.losses,
        options.shares,
        xla=options.xla,
        compile_losses=compile_losses,
    )


def make_averages(
    model: SegmentationModel, stages: Sequence[Stage], strategy: tf.distribute.Strategy
) -> dict[str, tf.Variable]:
    """A moving average of each weight that any stage trains, by the weight's path."""
    weights = {w.path: w for stage in stages for w in model.trainable_weights(stage.trainable)}
    with strategy.scope():
        return {
            path: tf.Variable(tf.convert_to_tensor(weight.value), trainable=False)
            for path, weight in weights.items()
        }


def model_variables(
    model: SegmentationModel, averages: Mapping[str, tf.Variable]
) -> dict[str, tf.Variable]:
    """What a checkpoint holds of a model, by name."""
    kept = {average_name(path): variable for path, variable in averages.items()}
    return {**{v.path: v.value for v in model.variables}, **kept}


def trained_so_far(planned: Sequence[StageSchedule], step: int) -> list[str]:
    """What each stage trains, of the stages that have begun before the step after `step`."""
    return [one.stage.trainable for one in planned if one.first_step < max(step, 1)]


def check_same_stages(
    metadata: CheckpointMetadata, planned: Sequence[StageSchedule], run_dir: str
) -> None:
    """Refuses a checkpoint that other stages led to.

    Raises:
      UserError: Says which stages differ.
    """
    now, before = trained_so_far(planned, metadata.step), metadata.run["trained"]
    if before != now:
        raise UserError(
            f"--workdir={run_dir}: the {metadata.step} steps so far trained {', '.join(before)}, "
            f"now they would have trained {', '.join(now)}; name a new --workdir, or restore the "
            "stages"
        )
