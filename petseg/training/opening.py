"""How a run begins, or goes on: everything between the settings and the first step."""

import dataclasses

import tensorflow as tf

from petseg.config import Config
from petseg.errors import UserError
from petseg.feature_cache import source as feature_source
from petseg.models.vgg16_skip import SkipModel
from petseg.run_dir import checkpoints, run_folder
from petseg.run_dir.checkpoints import Page
from petseg.training import data_set, distribution, learner, precision
from petseg.training.data_set import DataSet
from petseg.training.distribution import Agree, Host
from petseg.training.learner import Learner, Span


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a run takes place.

    Attributes:
      strategy: over all replicas of all hosts.
      host: this one.
      agree: adds numbers over hosts.
    """

    strategy: tf.distribute.Strategy
    host: Host
    agree: Agree


@dataclasses.dataclass(frozen=True)
class Opened:
    """A run, ready for its next step.

    Attributes:
      config: the settings, checked and spelled out.
      place: where it takes place.
      data: its data set.
      model: with its weights.
      averages: of the weights, by path.
      spans: its stages.
      learner: the model within the present stage.
      page: of the checkpoint that it goes on from, or one of step 0.
      is_resumed: whether there is such a checkpoint.
      notes: what its user is to know.
    """

    config: Config
    place: Place
    data: DataSet
    model: SkipModel
    averages: dict[str, tf.Variable]
    spans: list[Span]
    learner: Learner
    page: Page
    is_resumed: bool
    notes: tuple[str, ...]

    @property
    def total_steps(self) -> int:
        """Of all stages."""
        return self.spans[-1].end_step


def find_place(config: Config) -> Place:
    """Chooses devices; must come before TensorFlow has used any.

    Raises:
      UserError: the devices that the settings ask for are not there, or do not fit.
    """
    devices = config.devices
    if devices.deterministic_ops:
        tf.config.experimental.enable_op_determinism()
    precision.check_fit(devices.precision, devices.xla, devices.force)
    strategy = distribution.make_strategy(
        devices.strategy,
        devices.cluster,
        devices.cpu_replicas,
        config.data.batch_size,
        config.optimizer.microbatches,
    )
    host = distribution.this_host(strategy)
    return Place(strategy, host, distribution.make_agree(strategy, host.count))


def open_run(config: Config, run_dir: str | None, place: Place) -> Opened:
    """Builds the model, with the weights of the run's newest checkpoint if it has any.

    Args:
      config: checked and spelled out.
      run_dir: the run folder, in which nothing is written; None for a run without one.
      place: where it takes place.

    Raises:
      UserError: the data set, the run folder or the weights are wrong.
    """
    data = data_set.open_data_set(config)
    changed = run_folder.check_fits(run_dir, config, data.manifest) if run_dir else []
    step, skipped = _find_start(run_dir, place)
    model = _build_model(config, data, place, is_resumed=step is not None)
    averages = learner.make_averages(config, model, place.strategy)
    spans = learner.plan_spans(config, data.train.records)
    span = learner.span_at(spans, step or 0)
    current = learner.make_learner(
        config, model, averages, place.strategy, span, data.class_weights
    )
    if step is None:
        page = Page(0, _describe(config, data, model), {}, {})
    else:
        page = _restore(run_dir, step, model, averages, spans, current)
    if config.data.feature_cache_dir:
        data = _with_features(config, data, model, page, place)
    return Opened(
        config,
        place,
        data,
        model,
        averages,
        spans,
        current,
        page,
        step is not None,
        (*changed, *skipped),
    )


def _with_features(
    config: Config, data: DataSet, model: SkipModel, page: Page, place: Place
) -> DataSet:
    found = feature_source.open_features(
        config,
        data.manifest,
        model,
        page.about["backbone_sha256"],
        # A run that goes on may have trained its backbone meanwhile.
        lambda: model if page.step == 0 else _build_model(config, data, place, is_resumed=False),
        place.strategy,
        place.host,
        place.agree,
    )
    return dataclasses.replace(data, features=found)


def page_about(opened: Opened, step: int) -> dict[str, object]:
    """What a checkpoint of a step says of its model and data."""
    trained = [span.stage.trained for span in opened.spans if span.first_step < max(step, 1)]
    return {
        **opened.page.about,
        "config": dataclasses.asdict(opened.config),
        "trained": trained,
    }


def _find_start(run_dir: str | None, place: Place) -> tuple[int | None, list[str]]:
    """The step to go on from, the same on every host; None begins anew."""
    step, skipped = None, []
    if run_dir and place.host.is_first and checkpoints.saved_steps(run_dir):
        step, skipped = checkpoints.newest_readable(run_dir)
    (agreed,) = place.agree([-1.0 if step is None else step] if place.host.is_first else [0.0])
    return (None if agreed < 0 else int(agreed)), skipped


def _build_model(config: Config, data: DataSet, place: Place, *, is_resumed: bool) -> SkipModel:
    # A checkpoint holds the backbone too, so its weights file is read only once.
    is_read = not is_resumed and not config.model.start_from
    weights = config.model.backbone_weights if is_read else "none"
    with place.strategy.scope():
        model = run_folder.build_from_config(
            config, data.label_map.num_classes, weights, config.devices.precision
        )
    if config.model.start_from and not is_resumed:
        _start_from(config.model.start_from, model)
    return model


def _start_from(run_dir: str, model: SkipModel) -> None:
    try:
        step, _ = checkpoints.newest_readable(run_dir)
        other = run_folder.read_config(run_dir)
        checkpoints.restore(run_folder.served_variables(other, model), run_dir, step)
    except UserError as error:
        raise UserError(f"config.model.start_from: {error}") from error


def _restore(
    run_dir: str,
    step: int,
    model: SkipModel,
    averages: dict[str, tf.Variable],
    spans: list[Span],
    current: Learner,
) -> Page:
    learner.check_stage(checkpoints.read_page(run_dir, step), spans, run_dir)
    variables = learner.model_variables(model, averages)
    if step > current.span.first_step:  # at a border a new optimizer begins
        variables |= learner.stage_variables(current)
    return checkpoints.restore(variables, run_dir, step)


def _describe(config: Config, data: DataSet, model: SkipModel) -> dict[str, object]:
    """What does not change in a run's pages."""
    return {
        "label_map": config.data.label_map,
        "manifest_sha256": data.manifest.digest(),
        "backbone_sha256": learner.hash_backbone(model),
    }
