"""Every setting, typed and documented; `validate` is called once, before any work.

A config file in configs/ returns a `Config`; a flag such as
--config.data.batch_size=64 changes one field of it.
"""

import dataclasses
import json
import math
import os
import typing

from petseg.augmentation import Augmentation
from petseg.data import label_map
from petseg.errors import UserError
from petseg.losses.terms import parse_loss

HEADS = ("fcn32s", "fcn16s", "fcn8s", "five_tap", "wide")
STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")
CLUSTERS = ("tf_config", "slurm", "kubernetes")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "polynomial", "piecewise", "plateau")
FEATURE_DTYPES = ("uint8", "float16")
TRAINED = ("head", "block5", "block4", "block3", "block2", "all")
STRIDE_PX = 32  # VGG16 halves an image five times


@dataclasses.dataclass
class DataConfig:
    """What is read.

    Attributes:
      dir: the folder that tools/convert.py wrote.
      label_map: a preset (three_class, border_ignored, border_is_pet) or
        'name=values; ...; ignored=values' over the masks' raw values.
      image_size: height and width of the model's input in pixels; a multiple of 32.
      batch_size: images per step over all replicas together (the global batch).
      shuffle_records: how many serialized records the shuffle buffer holds.
      verify_hashes: compare every shard's SHA-256 with the manifest before
        training; if False, only its existence and size.
      keep_aspect: fit the longer side of whole images to image_size and fill the rest
        with black, which counts nowhere; otherwise squash. Random windows then have
        aspects near 1 in pixels.
      cache: 'none'; 'memory', or a folder on a local disk: shards are copied there before
        training, for data sets in buckets or on slow disks.
      service_address: of a tf.data service whose workers decode instead of this machine,
        such as grpc://host:5050; the order of examples then varies.
      input_threads: threads of the input alone; 0 shares TensorFlow's, one a core.
      ram_budget_mib: what the input's buffers may grow to; 0 leaves it to tf.data.
      deterministic: the n-th batch is always the same; otherwise a slow record does not
        hold up the next ones.
      share_files: with several hosts, each reads only its own shards where they divide by
        them. Less is read, but batches then depend on the number of hosts.
      feature_cache_dir: a folder for the pools of every image (and, with augment.flip, of
        its mirror image), computed once: the backbone, or as much of it as stays frozen, is
        then not computed while training. '' is none.
      feature_dtype: what pools are stored as: uint8 (with a scale for each image's channels)
        or float16.
      feature_crops: how many fixed windows of each image are stored too, drawn once by
        augment.min_crop_area and augment.max_crop_aspect.
    """

    dir: str = ""
    label_map: str = "three_class"
    image_size: int = 224
    batch_size: int = 16
    shuffle_records: int = 4096
    verify_hashes: bool = True
    keep_aspect: bool = False
    cache: str = "none"
    service_address: str = ""
    input_threads: int = 0
    ram_budget_mib: int = 0
    deterministic: bool = True
    share_files: bool = False
    feature_cache_dir: str = ""
    feature_dtype: str = "uint8"
    feature_crops: int = 0


@dataclasses.dataclass
class ModelConfig:
    """The VGG16 skip-layer model.

    Attributes:
      head: fcn32s (pool 5; a stride of 32), fcn16s (pools 4-5; strides 2, 16), fcn8s (pools
        3-5; strides 2, 2, 8), five_tap (pools 1-5; five strides of 2) or wide (pools 2-5;
        strides 2, 2, 2, 4, of normalised features, not of scores).
      backbone_weights: 'imagenet' (Keras downloads them), 'none', or the path of a
        Keras VGG16 weights file without its top.
      backbone_width: filters of the first block; 64 is VGG16.
      backbone_convs: convolutions of each of the five blocks; 2, 2, 3, 3, 3 is VGG16.
      score_channels: channels of each pool's score map; 0 is one a class, as in the
        paper's FCN-8s. Not for wide.
      head_width: channels of the head wide at pool 2, a multiple of 8; each deeper pool has
        twice as many.
      dropout_rate: share of each tapped pool's channels dropped while training.
      start_from: another run's folder whose newest weights are the first ones here, in
        place of backbone_weights and random heads; '' for none.
    """

    head: str = "fcn8s"
    backbone_weights: str = "imagenet"
    backbone_width: int = 64
    backbone_convs: tuple[int, ...] = (2, 2, 3, 3, 3)
    score_channels: int = 32
    head_width: int = 32
    dropout_rate: float = 0.05
    start_from: str = ""


@dataclasses.dataclass
class Stage:
    """A part of a run that follows those before it.

    Attributes:
      trained: what moves: head, block5 (and the head), block4 (and all after it), ..., all.
      epochs: passes over the training split; may be a fraction.
      learning_rate: at its peak; the schedule begins anew.
    """

    trained: str = "head"
    epochs: float = 4.0
    learning_rate: float = 5e-3


@dataclasses.dataclass
class TrainConfig:
    """How it is trained.

    Attributes:
      trained: what moves: head, block5 (and the head), block4 (and all after it), ..., all.
      epochs: passes over the training split; may be a fraction.
      learning_rate: at its peak.
      then: stages that follow; in a config file,
        [Stage(trained='block5', epochs=2.0, learning_rate=1e-4)].
      loss: a sum of terms, each with a weight or without, as in cross_entropy+0.5*dice:
        cross_entropy, boundary_cross_entropy, focal, dice, generalised_dice, tversky,
        lovasz_softmax.
      class_weights: of the cross-entropies: none; balanced, by the pixels that the manifest
        counts in the training split; or a number for each class, as in 1,1,2.5.
      label_smoothing: of the cross-entropies: share of the truth spread over all classes.
      seed: of the weights, the order, the augmentation and the dropout.
      log_every_steps: steps between two points of the training curves.
      evaluate_every_epochs: epochs between two evaluations, each with a
        checkpoint; may be a fraction.
      save_every_minutes: a checkpoint also goes at least as often as that; 0 is never.
      keep_checkpoints: how many of the latest checkpoints stay, beside the best one.
      best_metric: mean_iou, pixel_accuracy or iou/CLASS: which checkpoint is the best.
      panel_images: how many validation images the panel shows, and how many of the worst
        ones are shown at the end.
      histograms: TensorBoard gets those of the head's weights and gradients as well.
      profile_steps: first and last step (left out) of a profile for TensorBoard; () for none.
      doctor_seconds: how long each stage of the input and the model is measured before
        the first step, to say what limits training; 0 leaves it out.
    """

    trained: str = "head"
    epochs: float = 4.0
    learning_rate: float = 5e-3
    then: list[Stage] = dataclasses.field(default_factory=list)
    loss: str = "cross_entropy+dice"
    class_weights: str = "none"
    label_smoothing: float = 0.0
    seed: int = 0
    log_every_steps: int = 10
    evaluate_every_epochs: float = 1.0
    save_every_minutes: float = 10.0
    keep_checkpoints: int = 3
    best_metric: str = "mean_iou"
    panel_images: int = 8
    histograms: bool = False
    profile_steps: tuple[int, ...] = ()
    doctor_seconds: float = 1.0


@dataclasses.dataclass
class OptimizerConfig:
    """What a gradient does to the weights.

    Attributes:
      name: adam, adamw (weight decay apart from the gradient) or sgd (with momentum).
      momentum: of sgd.
      weight_decay: share of a kernel that goes, times the learning rate, a step; biases
        and norms are left alone. Not for adam: take adamw.
      clip_norm: longest gradient over all weights together; 0 does not clip.
      backbone_rate_factor: what the learning rate is multiplied with for the backbone's
        weights, where they are trained.
      average_decay: of the exponential moving average of the weights, which is then what
        is evaluated and exported; 0 keeps none.
      microbatches: parts into which a replica's share of a batch is cut, one after the
        other, to save memory; the result is that of the whole.
      schedule: how the rate goes after the warm-up: constant, cosine or polynomial to 0,
        piecewise, or plateau (lower when best_metric stops rising).
      warmup_steps: from 0 up to the learning rate, at most half of a stage.
      power: of the polynomial.
      drop_at: piecewise: shares of the stage after which the rate drops.
      drop_factor: piecewise and plateau: what a drop multiplies the rate with.
      patience_evaluations: plateau: how many without a new best before a drop.
    """

    name: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    backbone_rate_factor: float = 1.0
    average_decay: float = 0.0
    microbatches: int = 1
    schedule: str = "cosine"
    warmup_steps: int = 50
    power: float = 0.9
    drop_at: tuple[float, ...] = (0.6, 0.85)
    drop_factor: float = 0.1
    patience_evaluations: int = 2


@dataclasses.dataclass
class DevicesConfig:
    """What it runs on.

    Attributes:
      strategy: auto (several hosts if TF_CONFIG names them, else all GPUs of this machine,
        else one device), one_device, mirrored, multi_worker or tpu.
      cluster: how multi_worker finds its hosts: tf_config, slurm or kubernetes.
      cpu_replicas: with mirrored and no GPU, how many logical CPU devices to rehearse on.
      precision: of the model's arithmetic: float32, mixed_bfloat16 or mixed_float16 (with
        loss scaling); weights are float32 in any case.
      xla: compile the forward and backward computation with XLA.
      force: accept a precision or xla that is known to be slow or wrong on these devices.
      deterministic_ops: use only operations that give the same bits each time.
    """

    strategy: str = "auto"
    cluster: str = "tf_config"
    cpu_replicas: int = 0
    precision: str = "float32"
    xla: bool = False
    force: bool = False
    deterministic_ops: bool = False


@dataclasses.dataclass
class Config:
    """All settings of a run.

    Attributes:
      data: what is read.
      augment: how training images vary.
      model: the network.
      train: how it is trained.
      optimizer: what a gradient does to the weights.
      devices: what it runs on.
    """

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    augment: Augmentation = dataclasses.field(default_factory=Augmentation)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    devices: DevicesConfig = dataclasses.field(default_factory=DevicesConfig)

    def stages(self) -> list[Stage]:
        """All stages in order; `train` itself describes the first."""
        first = Stage(self.train.trained, self.train.epochs, self.train.learning_rate)
        return [first, *self.train.then]


def validate(config: Config) -> None:
    """Checks every field that does not depend on files or devices.

    Raises:
      UserError: names the first field that is wrong, its value and what it may be.
    """
    data, augment, model, train = config.data, config.augment, config.model, config.train
    classes = label_map.parse_label_map(data.label_map)
    _require(
        data.image_size > 0 and data.image_size % STRIDE_PX == 0,
        "data.image_size",
        data.image_size,
        f"be a positive multiple of {STRIDE_PX}",
    )
    for name in ("batch_size", "shuffle_records"):
        _at_least("data", name, getattr(data, name), 1)
    for name in ("input_threads", "ram_budget_mib"):
        _at_least("data", name, getattr(data, name), 0)
    _require(bool(data.cache), "data.cache", data.cache, "be none, memory or a folder")
    _require(
        not data.service_address or "://" in data.service_address,
        "data.service_address",
        data.service_address,
        "name a protocol, as in grpc://host:5050",
    )
    _one_of("data", "feature_dtype", data.feature_dtype, FEATURE_DTYPES)
    _at_least("data", "feature_crops", data.feature_crops, 0)
    _validate_augmentation(augment)
    if data.feature_cache_dir:
        _validate_feature_cache(config)
    _one_of("model", "head", model.head, HEADS)
    _at_least("model", "backbone_width", model.backbone_width, 1)
    _at_least("model", "score_channels", model.score_channels, 0)
    _require(
        model.head_width > 0 and model.head_width % 8 == 0,
        "model.head_width",
        model.head_width,
        "be a positive multiple of 8",
    )
    _require(
        len(model.backbone_convs) == 5
        and all(isinstance(n, int) and n >= 1 for n in model.backbone_convs),
        "model.backbone_convs",
        model.backbone_convs,
        "be five whole numbers of at least 1",
    )
    _require(
        bool(model.backbone_weights), "model.backbone_weights", "", "be imagenet, none or a path"
    )
    _between("model", "dropout_rate", model.dropout_rate, 0, 0.95)
    for index, stage in enumerate(config.stages()):
        _validate_stage("train" if index == 0 else f"train.then[{index - 1}]", stage)
    _require(
        train.evaluate_every_epochs > 0,
        "train.evaluate_every_epochs",
        train.evaluate_every_epochs,
        "be above 0",
    )
    parse_loss(train.loss)
    if train.class_weights not in ("none", "balanced"):
        parse_class_weights(train.class_weights)
    _between("train", "label_smoothing", train.label_smoothing, 0, 0.9)
    for name, least in (
        ("log_every_steps", 1),
        ("save_every_minutes", 0),
        ("keep_checkpoints", 1),
        ("panel_images", 1),
        ("doctor_seconds", 0),
    ):
        _at_least("train", name, getattr(train, name), least)
    steps = train.profile_steps
    _require(
        steps == ()
        or (len(steps) == 2 and all(type(s) is int for s in steps) and 0 <= steps[0] < steps[1]),
        "train.profile_steps",
        steps,
        "be two rising steps, as in 100,110",
    )
    metrics = ["mean_iou", "pixel_accuracy", *(f"iou/{name}" for name in classes.names)]
    _one_of("train", "best_metric", train.best_metric, metrics)
    _validate_optimizer(config.optimizer, data.batch_size)
    _one_of("devices", "strategy", config.devices.strategy, STRATEGIES)
    _one_of("devices", "cluster", config.devices.cluster, CLUSTERS)
    _one_of("devices", "precision", config.devices.precision, PRECISIONS)
    _at_least("devices", "cpu_replicas", config.devices.cpu_replicas, 0)


def parse_class_weights(text: str) -> tuple[float, ...]:
    """The numbers in '1,1,2.5'; raises UserError if they are none, or below 0."""
    try:
        weights = tuple(float(number) for number in text.split(","))
    except ValueError:
        weights = (-1.0,)
    _require(
        all(0 <= weight < math.inf for weight in weights) and any(weights),
        "train.class_weights",
        text,
        "be none, balanced, or a number of at least 0 for each class, as in 1,1,2.5",
    )
    return weights


def _validate_feature_cache(config: Config) -> None:
    """A cache holds what was computed once: what needs images anew does not go with it."""
    data, augment = config.data, config.augment
    field = "data.feature_cache_dir"
    plain = Augmentation(
        flip=augment.flip,
        min_crop_area=augment.min_crop_area,
        max_crop_aspect=augment.max_crop_aspect,
    )
    for name, (value, _) in differences(augment, plain, "config.augment").items():
        raise UserError(
            f"config.{field} goes with flips and fixed windows alone, but {name}={value!r}; "
            "leave one of them out"
        )
    has_crops = data.feature_crops > 0
    _require(
        augment.whole_images != has_crops,
        "data.feature_crops",
        data.feature_crops,
        "be 0 with whole images (augment.min_crop_area=1), and with windows as many as are to "
        "be computed of each image",
    )
    _require(not data.service_address, "data.service_address", data.service_address,
             f"be '' with {field}")  # fmt: skip
    for index, stage in enumerate(config.stages()):
        room = "train" if index == 0 else f"train.then[{index - 1}]"
        _require(stage.trained != "all", f"{room}.trained", stage.trained,
                 f"be block2 or later with {field}: the first block sees images")  # fmt: skip


def _validate_stage(room: str, stage: Stage) -> None:
    _one_of(room, "trained", stage.trained, TRAINED)
    for name in ("epochs", "learning_rate"):
        _require(getattr(stage, name) > 0, f"{room}.{name}", getattr(stage, name), "be above 0")


def _validate_optimizer(optimizer: OptimizerConfig, batch_size: int) -> None:
    _one_of("optimizer", "name", optimizer.name, OPTIMIZERS)
    _one_of("optimizer", "schedule", optimizer.schedule, SCHEDULES)
    for name, least in (
        ("weight_decay", 0),
        ("clip_norm", 0),
        ("backbone_rate_factor", 0),
        ("warmup_steps", 0),
        ("power", 0),
        ("patience_evaluations", 1),
    ):
        _at_least("optimizer", name, getattr(optimizer, name), least)
    _require(
        not optimizer.weight_decay or optimizer.name != "adam",
        "optimizer.weight_decay",
        optimizer.weight_decay,
        "be 0 with adam; take --config.optimizer.name=adamw",
    )
    for name, most in (("momentum", 0.9999), ("average_decay", 0.999999), ("drop_factor", 1)):
        _between("optimizer", name, getattr(optimizer, name), 0, most)
    _require(
        all(0 < place < 1 for place in optimizer.drop_at)
        and list(optimizer.drop_at) == sorted(optimizer.drop_at),
        "optimizer.drop_at",
        optimizer.drop_at,
        "be rising shares between 0 and 1",
    )
    _between("optimizer", "microbatches", optimizer.microbatches, 1, batch_size)


def _validate_augmentation(augment: Augmentation) -> None:
    _between("augment", "min_crop_area", augment.min_crop_area, 0.01, 1)
    _at_least("augment", "max_crop_aspect", augment.max_crop_aspect, 1)
    for name, most in (
        ("max_rotation_degrees", 180),
        ("max_shear_degrees", 60),
        ("max_zoom", 10),
        ("max_shift", 1),
        ("brightness", 1),
        ("contrast", 1),
        ("saturation", 1),
        ("max_hue_degrees", 180),
        ("max_blur_sigma_px", 100),
        ("cutout_area", 1),
        ("cutmix_probability", 1),
    ):
        _between("augment", name, getattr(augment, name), 0, most)


def spell_out(config: Config) -> Config:
    """A copy whose label map is spelled out and whose local paths are absolute.

    So a run folder says what it means whatever a preset's name comes to mean, and
    wherever the next command is started.
    """
    weights = config.model.backbone_weights
    return dataclasses.replace(
        config,
        data=dataclasses.replace(
            config.data,
            dir=_absolute(config.data.dir),
            feature_cache_dir=_absolute(config.data.feature_cache_dir)
            if config.data.feature_cache_dir
            else "",
            cache=_absolute(config.data.cache)
            if config.data.cache not in ("none", "memory")
            else config.data.cache,
            label_map=label_map.parse_label_map(config.data.label_map).spec(),
        ),
        model=dataclasses.replace(
            config.model,
            backbone_weights=weights if weights in ("imagenet", "none") else _absolute(weights),
            start_from=_absolute(config.model.start_from) if config.model.start_from else "",
        ),
    )


def to_json(config: Config) -> str:
    """The settings as JSON; `from_json` reads it back."""
    return json.dumps(dataclasses.asdict(config), indent=1) + "\n"


def from_json(text: str) -> Config:
    """Reads what `to_json` wrote.

    Raises:
      ValueError: it is not JSON, or a field is unknown.
    """
    content = json.loads(text)
    types = typing.get_type_hints(Config)
    try:
        rooms = {name: room(**_with_tuples(content[name])) for name, room in types.items()}
        rooms["train"].then = [Stage(**stage) for stage in rooms["train"].then]
        return Config(**rooms)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(str(error)) from error


def differences(old: object, new: object, prefix: str = "config") -> dict[str, tuple]:
    """Fields in which two configs differ: 'config.data.seed' -> (old, new)."""
    found = {}
    for field in dataclasses.fields(old):
        before, after = getattr(old, field.name), getattr(new, field.name)
        name = f"{prefix}.{field.name}"
        if dataclasses.is_dataclass(before):
            found.update(differences(before, after, name))
        elif before != after:
            found[name] = (before, after)
    return found


def _absolute(path: str) -> str:
    return path if "://" in path else os.path.abspath(path)


def _with_tuples(fields: dict) -> dict:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def _require(holds: bool, field: str, value: object, must: str) -> None:
    if not holds:
        raise UserError(f"config.{field}={value!r} must {must}")


def _at_least(room: str, field: str, value: float, least: float) -> None:
    _require(value >= least, f"{room}.{field}", value, f"be at least {least}")


def _between(room: str, field: str, value: float, low: float, high: float) -> None:
    _require(low <= value <= high, f"{room}.{field}", value, f"lie between {low} and {high}")


def _one_of(room: str, field: str, value: str, allowed: tuple[str, ...]) -> None:
    _require(value in allowed, f"{room}.{field}", value, f"be one of {', '.join(allowed)}")
