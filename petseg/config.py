"""Every setting, typed and documented; `validate` is called once, before any work.

A config file in configs/ returns a `Config`; a flag such as
--config.data.batch_size=64 changes one field of it.
"""

import dataclasses
import json
import os
import typing

from petseg import label_map
from petseg.augmentation import Augmentation
from petseg.errors import UserError

HEADS = ("fcn8s", "five_tap")
LOSSES = ("cross_entropy", "dice", "cross_entropy+dice")
STRATEGIES = ("auto", "one_device", "mirrored")
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


@dataclasses.dataclass
class ModelConfig:
    """The VGG16 skip-layer model.

    Attributes:
      head: fcn8s (pools 3-5; strides 2, 2, 8) or five_tap (pools 1-5; five strides
        of 2).
      backbone_weights: 'imagenet' (Keras downloads them), 'none', or the path of a
        Keras VGG16 weights file without its top.
      freeze_backbone: train the head only.
      backbone_width: filters of the first block; 64 is VGG16.
      backbone_convs: convolutions of each of the five blocks; 2, 2, 3, 3, 3 is VGG16.
      score_channels: channels of each pool's score map; 0 is one a class, as in the
        paper's FCN-8s.
      dropout_rate: share of each tapped pool's channels dropped while training.
    """

    head: str = "fcn8s"
    backbone_weights: str = "imagenet"
    freeze_backbone: bool = True
    backbone_width: int = 64
    backbone_convs: tuple[int, ...] = (2, 2, 3, 3, 3)
    score_channels: int = 32
    dropout_rate: float = 0.05


@dataclasses.dataclass
class TrainConfig:
    """How it is trained.

    Attributes:
      epochs: passes over the training split; may be a fraction.
      learning_rate: Adam's, at its peak.
      warmup_steps: steps from 0 up to learning_rate; a cosine to 0 follows.
      loss: cross_entropy, dice, or cross_entropy+dice (their sum).
      seed: of the weights, the order, the augmentation and the dropout.
      strategy: auto (MirroredStrategy over all GPUs, else one device), one_device
        or mirrored.
      cpu_replicas: with strategy=mirrored and no GPU, how many logical CPU devices
        to rehearse on.
      log_every_steps: steps between two points of the training curves.
      evaluate_every_epochs: epochs between two evaluations, each with a
        checkpoint; may be a fraction.
      keep_checkpoints: how many of the latest checkpoints stay.
      panel_images: how many validation images the panel shows.
      doctor_seconds: how long each stage of the input and the model is measured before
        the first step, to say what limits training; 0 leaves it out.
    """

    epochs: float = 4.0
    learning_rate: float = 5e-3
    warmup_steps: int = 50
    loss: str = "cross_entropy+dice"
    seed: int = 0
    strategy: str = "auto"
    cpu_replicas: int = 0
    log_every_steps: int = 10
    evaluate_every_epochs: float = 1.0
    keep_checkpoints: int = 3
    panel_images: int = 8
    doctor_seconds: float = 1.0


@dataclasses.dataclass
class Config:
    """All settings of a run.

    Attributes:
      data: what is read.
      augment: how training images vary.
      model: the network.
      train: how it is trained.
    """

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    augment: Augmentation = dataclasses.field(default_factory=Augmentation)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)


def validate(config: Config) -> None:
    """Checks every field that does not depend on files or devices.

    Raises:
      UserError: names the first field that is wrong, its value and what it may be.
    """
    data, augment, model, train = config.data, config.augment, config.model, config.train
    label_map.parse_label_map(data.label_map)
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
    _validate_augmentation(augment)
    _one_of("model", "head", model.head, HEADS)
    _at_least("model", "backbone_width", model.backbone_width, 1)
    _at_least("model", "score_channels", model.score_channels, 0)
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
    _require(train.epochs > 0, "train.epochs", train.epochs, "be above 0")
    _require(
        train.evaluate_every_epochs > 0,
        "train.evaluate_every_epochs",
        train.evaluate_every_epochs,
        "be above 0",
    )
    _require(train.learning_rate > 0, "train.learning_rate", train.learning_rate, "be above 0")
    _one_of("train", "loss", train.loss, LOSSES)
    _one_of("train", "strategy", train.strategy, STRATEGIES)
    for name, least in (
        ("warmup_steps", 0),
        ("cpu_replicas", 0),
        ("log_every_steps", 1),
        ("keep_checkpoints", 1),
        ("panel_images", 1),
        ("doctor_seconds", 0),
    ):
        _at_least("train", name, getattr(train, name), least)


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
            cache=_absolute(config.data.cache)
            if config.data.cache not in ("none", "memory")
            else config.data.cache,
            label_map=label_map.parse_label_map(config.data.label_map).spec(),
        ),
        model=dataclasses.replace(
            config.model,
            backbone_weights=weights if weights in ("imagenet", "none") else _absolute(weights),
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
    try:
        return Config(
            **{
                room.name: typing.get_type_hints(Config)[room.name](
                    **_with_tuples(content[room.name])
                )
                for room in dataclasses.fields(Config)
            }
        )
    except (TypeError, KeyError) as error:
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
