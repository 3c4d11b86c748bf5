"""From settings to a run that is ready for its next step: the last module that needs Config."""

import dataclasses

import tensorflow as tf

from petseg.config import Config
from petseg.devices import Devices
from petseg.feature_cache.cache import FeatureCacheOptions, hash_encoder, open_feature_cache
from petseg.feature_cache.feature_batches import FeatureBatches
from petseg.input_pipeline.batch_source import BatchSource
from petseg.losses.terms import parse_loss
from petseg.models import segmentation_model
from petseg.models.segmentation_model import SegmentationModel
from petseg.run_dir import checkpoints, run_folder
from petseg.run_dir.checkpoints import CheckpointMetadata
from petseg.run_dir.trained_model import model_options
from petseg.training import data as data_lib
from petseg.training import distribution, precision, same_settings, stages
from petseg.training.data import DataSet
from petseg.training.gradients import BatchShares, LossOptions
from petseg.training.optimizers import Optimizer
from petseg.training.schedules import ScheduleOptions
from petseg.training.stages import StageSchedule, StageTrainer, TrainingOptions
from petseg.training.teacher import Teacher, load_teacher
from petseg.training.transfer import Transfer, start_from

LOSS_SCALED = "mixed_float16"  # the precision that scales losses


@dataclasses.dataclass(frozen=True)
class LoopOptions:
    """When the training loop does what; see TrainConfig and OptimizerConfig.

    Attributes:
      log_every_steps: Steps between two points of the training curves.
      evaluate_every_epochs: Epochs between two evaluations.
      save_every_minutes: Minutes between two checkpoints at most; 0 is never.
      keep_checkpoints: Number of latest checkpoints that are kept.
      best_metric: Which metric chooses the best checkpoint.
      panel_images: Number of images in TensorBoard's panels.
      profile_steps: First step of a profile, and the step before which it ends; or ().
      bottleneck_seconds: Seconds for which each part is measured before the first step.
      has_plateau: Whether the learning rate drops when the best metric stops rising.
      patience_evaluations: Evaluations without a new best before a drop.
      drop_factor: Factor of each drop.
    """

    log_every_steps: int
    evaluate_every_epochs: float
    save_every_minutes: float
    keep_checkpoints: int
    best_metric: str
    panel_images: int
    profile_steps: tuple[int, ...]
    bottleneck_seconds: float
    has_plateau: bool
    patience_evaluations: int
    drop_factor: float


@dataclasses.dataclass(frozen=True)
class RunSetup:
    """A run, ready for its next step.

    Attributes:
      config: The settings, checked and spelled out.
      devices: What it runs on.
      data: Its data set.
      batches: Where its batches come from: images, or cached features.
      model: With its weights.
      averages: Moving averages of the weights, by path; empty if the run keeps none.
      planned: Its stages.
      options: What its stages have in common.
      loop: When the training loop does what.
      stage: The current stage.
      metadata: Of the checkpoint that it resumes from, or of step 0.
      is_resumed: Whether there is such a checkpoint.
      notes: Lines for the user.
    """

    config: Config
    devices: Devices
    data: DataSet
    batches: BatchSource
    model: SegmentationModel
    averages: dict[str, tf.Variable]
    planned: list[StageSchedule]
    options: TrainingOptions
    loop: LoopOptions
    stage: StageTrainer
    metadata: CheckpointMetadata
    is_resumed: bool
    notes: tuple[str, ...]

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return self.planned[-1].end_step

    @property
    def start_from(self) -> str:
        """What the run took from another run at its start; '' without one."""
        return str(self.metadata.run.get("start_from", ""))

    def epoch(self, step: int) -> str:
        """How often the first `step` steps show the training split, for people."""
        # Whole steps hardly ever make the epochs that are asked for.
        epochs = sum(stage.epochs for stage in self.config.stages())
        return f"epoch {step / self.total_steps * epochs:.1f} of {epochs:.1f}"

    def make_stage(self, planned: StageSchedule) -> StageTrainer:
        """Compiles a stage."""
        return StageTrainer(planned, self.model, self.averages, self.devices.strategy, self.options)

    def checkpoint_metadata(self, step: int, curve_sums: dict[str, float]) -> CheckpointMetadata:
        """The metadata of a step's checkpoint."""
        run = {
            **self.metadata.run,
            "config": dataclasses.asdict(self.config),
            "trained": stages.trained_so_far(self.planned, step),
        }
        return CheckpointMetadata(step, run, curve_sums, {})


def choose_devices(config: Config) -> Devices:
    """Chooses devices; must be called before TensorFlow uses any.

    Raises:
      UserError: The devices that the settings ask for do not exist, or do not fit.
    """
    devices = config.devices
    if devices.deterministic_ops:
        tf.config.experimental.enable_op_determinism()
    precision.check_fit(devices.precision, devices.xla, devices.force)
    return distribution.choose_devices(
        devices.strategy,
        devices.cluster,
        devices.cpu_replicas,
        config.data.batch_size,
        config.optimizer.microbatches,
    )


def prepare_run(config: Config, run_dir: str | None, devices: Devices) -> RunSetup:
    """Builds the model, with the weights of the run's newest checkpoint if it has any.

    Args:
      config: Checked and spelled out.
      run_dir: The run folder, in which nothing is written; None for a run without one.
      devices: What it runs on.

    Raises:
      UserError: The data set, the run folder or the weights are wrong.
    """
    data = data_lib.open_data_set(config)
    # A run folder says what its classes are, even if a preset or the data set changes later.
    spelled_out = dataclasses.replace(
        config.data, label_map=data.label_map.spec(), image_classes=data.image_classes
    )
    config = dataclasses.replace(config, data=spelled_out)
    same_settings.check_same(config, data.manifest.digest(), devices)
    changed = run_folder.check_fits(run_dir, config, data.manifest) if run_dir else []
    step, skipped = _find_start(run_dir, devices)
    model, transfer = _build_model(config, data, devices, is_resumed=step is not None)
    run_stages = config.stages()
    averages = {}
    if config.optimizer.average_decay:
        averages = stages.make_averages(model, run_stages, devices.strategy)
    planned = stages.plan_stages(run_stages, data.train.records, config.data.batch_size)
    teacher = load_teacher(config, data.label_map, devices) if config.train.teacher else None
    options = training_options(config, data, devices, teacher)
    current = stages.stage_at(planned, step or 0)
    trainer = StageTrainer(current, model, averages, devices.strategy, options)
    if step is None:
        metadata = CheckpointMetadata(0, _describe(config, data, model, transfer, teacher), {}, {})
        changed += [transfer.line()] if transfer else []
    else:
        saved = checkpoints.read_metadata(run_dir, step)
        stages.check_same_stages(saved, planned, run_dir)
        if teacher:
            teacher.check_same(saved, config.train.teacher)
        variables = stages.model_variables(model, averages)
        if step > current.first_step:  # at a border a new optimizer begins
            was_scaled = saved.run["config"]["devices"]["precision"] == LOSS_SCALED
            variables |= trainer.checkpoint_variables(has_loss_scale=was_scaled)
            if options.has_loss_scale and not was_scaled:
                changed = [*changed, "the loss scale starts anew: the run had none so far"]
        metadata = checkpoints.restore(variables, run_dir, step)
    batches = data.image_batches(devices)
    if config.data.feature_cache_dir:
        batches = _feature_batches(config, data, model, metadata, devices)
    return RunSetup(
        config=config,
        devices=devices,
        data=data,
        batches=batches,
        model=model,
        averages=averages,
        planned=planned,
        options=options,
        loop=loop_options(config),
        stage=trainer,
        metadata=metadata,
        is_resumed=step is not None,
        notes=(*changed, *skipped),
    )


def training_options(
    config: Config, data: DataSet, devices: Devices, teacher: Teacher | None
) -> TrainingOptions:
    """What all stages have in common, from the settings."""
    optimizer = config.optimizer
    return TrainingOptions(
        losses=LossOptions(
            parse_loss(config.train.loss),
            data.class_weights,
            config.train.label_smoothing,
            config.model.dropout_rate,
            config.train.teacher_temperature,
            teacher.model if teacher else None,
        ),
        truth=data.truth,
        shares=BatchShares(config.data.batch_size, devices.replicas, optimizer.microbatches),
        optimizer=Optimizer(optimizer.name, optimizer.momentum, optimizer.weight_decay),
        schedule=ScheduleOptions(
            name=optimizer.schedule,
            warmup_steps=optimizer.warmup_steps,
            power=optimizer.power,
            drop_at=optimizer.drop_at,
            drop_factor=optimizer.drop_factor,
        ),
        encoder_rate_factor=optimizer.encoder_rate_factor,
        clip_norm=optimizer.clip_norm,
        average_decay=optimizer.average_decay,
        seed=config.train.seed,
        image_size=config.data.image_size,
        has_loss_scale=config.devices.precision == LOSS_SCALED,
        xla=config.devices.xla,
        is_deterministic=config.devices.deterministic_ops,
        has_gpu=bool(tf.config.list_physical_devices("GPU")),
        returns_gradients=config.train.histograms,
    )


def loop_options(config: Config) -> LoopOptions:
    """When the training loop does what, from the settings."""
    train, optimizer = config.train, config.optimizer
    return LoopOptions(
        log_every_steps=train.log_every_steps,
        evaluate_every_epochs=train.evaluate_every_epochs,
        save_every_minutes=train.save_every_minutes,
        keep_checkpoints=train.keep_checkpoints,
        best_metric=train.best_metric,
        panel_images=train.panel_images,
        profile_steps=train.profile_steps,
        bottleneck_seconds=train.bottleneck_seconds,
        has_plateau=optimizer.schedule == "plateau",
        patience_evaluations=optimizer.patience_evaluations,
        drop_factor=optimizer.drop_factor,
    )


def _feature_batches(
    config: Config,
    data: DataSet,
    model: SegmentationModel,
    metadata: CheckpointMetadata,
    devices: Devices,
) -> FeatureBatches:
    """Batches of features, which are computed first where the cache lacks some."""

    def make_initial_model() -> SegmentationModel:
        # A resumed run may have trained its encoder since.
        if hash_encoder(model) == metadata.run["encoder_sha256"]:
            return model
        return _build_model(config, data, devices, is_resumed=False)[0]

    settings = config.data
    cache = open_feature_cache(
        FeatureCacheOptions(
            folder=settings.feature_cache_dir,
            dtype=settings.feature_dtype,
            crops=settings.feature_crops,
            augmentation=config.augment,
            image_size=settings.image_size,
            keep_aspect=settings.keep_aspect,
            precision=config.devices.precision,
            verify_hashes=settings.verify_hashes,
            cache=settings.cache,
            needs_image_class=data.options.has_image_class,
        ),
        settings.dir,
        data.manifest,
        model,
        [stage.trainable for stage in config.stages()],
        metadata.run["encoder_sha256"],
        make_initial_model,
        devices,
        data.verified,
    )
    return FeatureBatches(
        cache,
        model.cacheable_stages,
        data.options,
        devices.host_index,
        devices.host_count,
    )


def _find_start(run_dir: str | None, devices: Devices) -> tuple[int | None, list[str]]:
    """The step to resume from, the same on every host; None starts from scratch."""
    step, skipped = None, []
    if run_dir and devices.is_first_host and checkpoints.saved_steps(run_dir):
        step, skipped = checkpoints.newest_readable(run_dir)
    mine = (-1.0 if step is None else step) if devices.is_first_host else 0.0
    (agreed,) = devices.agree([mine])
    return (None if agreed < 0 else int(agreed)), skipped


def _build_model(
    config: Config, data: DataSet, devices: Devices, *, is_resumed: bool
) -> tuple[SegmentationModel, Transfer | None]:
    """The model as a run begins with it, and what it has from another run.

    With is_resumed its weights are random: a checkpoint holds the encoder too, so the weights
    file, or the other run, is read only once.
    """
    is_read = not is_resumed and not config.model.start_from
    with devices.strategy.scope():
        model = segmentation_model.build_model(
            model_options(config),
            num_classes=data.label_map.num_classes,
            image_size=config.data.image_size,
            weights=config.model.encoder_weights if is_read else "none",
            precision=config.devices.precision,
        )
    if is_resumed or not config.model.start_from:
        return model, None
    return model, start_from(config, data.label_map.names, model)


def _describe(
    config: Config,
    data: DataSet,
    model: SegmentationModel,
    transfer: Transfer | None,
    teacher: Teacher | None,
) -> dict[str, object]:
    """What does not change in the metadata of a run's checkpoints."""
    return {
        "label_map": config.data.label_map,
        "manifest_sha256": data.manifest.digest(),
        "encoder_sha256": hash_encoder(model),
        "start_from": transfer.text() if transfer else "",
        **(teacher.metadata() if teacher else {}),
    }
