"""What learns: a model, the stages it goes through, and its way into a checkpoint and out."""

import dataclasses
import hashlib
from collections.abc import Sequence

import tensorflow as tf

from petseg.config import Config, Stage
from petseg.errors import UserError
from petseg.losses import losses
from petseg.losses.terms import parse_loss
from petseg.models import features
from petseg.models.features import IMAGES
from petseg.models.layers import upsampling
from petseg.models.vgg16_skip import SkipModel
from petseg.run_dir.checkpoints import Page
from petseg.training import gradients, schedules, train_step
from petseg.training import state as state_lib
from petseg.training.optimizers import Optimizer
from petseg.training.state import State
from petseg.training.train_step import TrainSteps

# Compiling takes half a second, and saves 0.4 ms an image of 224 px.
_LONG_PIXELS = 2e8


@dataclasses.dataclass(frozen=True)
class Span:
    """Where a stage lies in a run.

    Attributes:
      index: of the stage, from 0.
      stage: what is trained, and how fast.
      first_step: the step it begins with.
      end_step: the first step after it.
    """

    index: int
    stage: Stage
    first_step: int
    end_step: int


@dataclasses.dataclass(frozen=True)
class Learner:
    """A model within one stage.

    Attributes:
      span: the stage.
      state: all that training changes.
      schedule: of the learning rate, from the stage's first step on.
      train_steps: see train_step.make_train_steps.
    """

    span: Span
    state: State
    schedule: schedules.Schedule
    train_steps: TrainSteps


def plan_spans(config: Config, records: int) -> list[Span]:
    """Where each stage begins and ends; a stage has at least one step.

    Args:
      config: the settings.
      records: images in the training split.
    """
    spans, images, first = [], 0.0, 0
    for index, stage in enumerate(config.stages()):
        # Counted from the start of the run, so that rounding does not add up.
        images += stage.epochs * records
        end = max(first + 1, int(images / config.data.batch_size))
        spans.append(Span(index, stage, first, end))
        first = end
    return spans


def span_at(spans: list[Span], step: int) -> Span:
    """The stage that a run is in after `step` steps: at a border, the one that begins."""
    return next((span for span in spans if step < span.end_step), spans[-1])


def known_blocks(config: Config, model: SkipModel, span: Span) -> tuple[int, ...]:
    """The blocks whose pools a stage takes from the feature cache; IMAGES without one."""
    if not config.data.feature_cache_dir:
        return IMAGES
    return features.known_blocks(model.tapped, span.stage.trained)


def make_averages(
    config: Config, model: SkipModel, strategy: tf.distribute.Strategy
) -> dict[str, tf.Variable]:
    """A moving average of each weight that any stage trains, by the weight's path.

    Empty if the run keeps none.
    """
    if not config.optimizer.average_decay:
        return {}
    weights = {
        weight.path: weight
        for stage in config.stages()
        for weight in state_lib.trained_weights(model, stage.trained)
    }
    with strategy.scope():
        return {
            path: tf.Variable(tf.convert_to_tensor(weight.value), trainable=False)
            for path, weight in weights.items()
        }


def make_learner(
    config: Config,
    model: SkipModel,
    averages: dict[str, tf.Variable],
    strategy: tf.distribute.Strategy,
    span: Span,
    class_weights: Sequence[float] = (),
) -> Learner:
    """Compiles the steps of a stage; its optimizer begins anew."""
    settings = config.optimizer
    optimizer = Optimizer(settings.name, settings.momentum, settings.weight_decay)
    weights = state_lib.trained_weights(model, span.stage.trained)
    with strategy.scope():
        state = state_lib.make_state(
            weights,
            state_lib.rate_factors(model, weights, settings.backbone_rate_factor),
            [averages[weight.path] for weight in weights] if averages else [],
            optimizer,
            has_loss_scale=config.devices.precision == "mixed_float16",
        )
    schedule = schedules.make_schedule(
        schedules.ScheduleOptions(
            settings.schedule,
            settings.warmup_steps,
            settings.power,
            settings.drop_at,
            settings.drop_factor,
        ),
        peak=span.stage.learning_rate,
        steps=span.end_step - span.first_step,
    )
    terms = parse_loss(config.train.loss)
    if not tf.config.list_physical_devices("GPU"):
        head = upsampling.multiply_for_wide_strides(model.head)
        model = dataclasses.replace(model, head=head)
    of_replica = gradients.make_gradients(
        model,
        weights,
        terms=terms,
        class_weights=class_weights,
        label_smoothing=config.train.label_smoothing,
        dropout_rate=config.model.dropout_rate,
        global_batch=config.data.batch_size,
        replicas=strategy.num_replicas_in_sync,
        microbatches=settings.microbatches,
        xla=config.devices.xla,
        fuse_losses=losses.gain_by_fusing(terms) and _is_long(config, span),
    )
    steps = train_step.make_train_steps(
        state,
        of_replica,
        optimizer,
        schedule,
        strategy,
        terms=list(terms),
        clip_norm=settings.clip_norm,
        average_decay=settings.average_decay,
        seed=config.train.seed,
        is_timed=not config.devices.deterministic_ops,
        told_gradients=state_lib.head_places(model, weights) if config.train.histograms else (),
    )
    return Learner(span, state, schedule, steps)


def _is_long(config: Config, span: Span) -> bool:
    """Whether a stage, on CPUs, lasts long enough to win back what XLA takes to compile."""
    images = (span.end_step - span.first_step) * config.data.batch_size
    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    # Whether XLA's sums are the same bits each time has not been looked at.
    if has_gpu or config.devices.deterministic_ops:
        return False
    return images * config.data.image_size**2 > _LONG_PIXELS


def model_variables(model: SkipModel, averages: dict[str, tf.Variable]) -> dict[str, tf.Variable]:
    """What a checkpoint holds of a model, by name."""
    kept = {average_name(path): variable for path, variable in averages.items()}
    return {**{v.path: v.value for v in model.variables}, **kept}


def stage_variables(learner: Learner) -> dict[str, tf.Variable]:
    """What a checkpoint holds of a stage's optimizer, by name."""
    state, where = learner.state, f"stage{learner.span.index}"
    slots = {
        f"{where}/{name}/{weight.path}": slot
        for name, column in state.slots.items()
        for weight, slot in zip(state.weights, column, strict=True)
    }
    return {**slots, **{f"{where}/{name}": count for name, count in state.counts.items()}}


def average_name(path: str) -> str:
    """The name of a weight's moving average in a checkpoint."""
    return f"average/{path}"


def check_stage(page: Page, spans: list[Span], workdir: str) -> None:
    """Refuses a checkpoint that another plan of stages led to.

    Raises:
      UserError: says which stage differs.
    """
    reached = [span for span in spans if span.first_step < page.step] or spans[:1]
    planned = [span.stage.trained for span in reached]
    if page.about["trained"] != planned:
        raise UserError(
            f"--workdir={workdir}: the {page.step} steps so far trained "
            f"{', '.join(page.about['trained'])}, now they would have trained "
            f"{', '.join(planned)}; name a new --workdir, or take the stages back"
        )


def hash_backbone(model: SkipModel) -> str:
    """SHA-256 of the backbone's weights, so that runs which began alike can be told."""
    digest = hashlib.sha256()
    for variable in model.backbone.variables:
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()
