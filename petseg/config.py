"""Every setting, typed and documented.

A recipe in configs/ returns a `Config`; a flag such as --config.data.batch_size=64 changes
one field of it. A new setting is one field here: its metadata says what it may be, whether a
resumed run may change it, and whether TensorBoard's hparams show it (petseg/setting.py).
"""

import dataclasses
from typing import ClassVar

from petseg.augmentation import Augmentation
from petseg.image_size import ImageSize
from petseg.patch_sampling import PatchSampling
from petseg.registry import DECODERS, ENCODERS
from petseg.setting import Hparam, Resume, Section, setting

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")
CLUSTERS = ("tf_config", "slurm", "kubernetes")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "polynomial", "piecewise", "plateau")
FEATURE_DTYPES = ("uint8", "float16")
WITHOUT_MASK = ("ignored", "box")
CLASS_MASKS = ("none", "shared", "transfer", "summed")

# Beyond what any machine computes: a damaged number is told apart from a large one.
_MAX_IMAGE_SIZE = 16384
_MAX_BATCH_SIZE = 1_000_000
_MAX_CHANNELS = 1 << 16

_FREE = {"resume": Resume.FREE}
_HIDDEN = {"resume": Resume.FREE, "hparam": Hparam.NEVER}
_SHOWN = {"hparam": Hparam.COLUMN}


@dataclasses.dataclass
class DataConfig(Section):
    """What is read.

    Attributes:
      dir: The data set: the folder that petseg-convert wrote.
      label_map: '' for the data set's own classes; a preset of its source (for pets
        three_class, border_ignored, border_is_pet), refused for data that names its values
        otherwise; or 'name=values; ...; ignored=values' over the masks' raw values.
      image_size: Of the model's input, in pixels: one number for squares, or (height, width),
        as a flag 224x320 or '(224, 320)'.
      batch_size: Images per step over all replicas together (the global batch).
      shuffle_records: Size of the shuffle buffer, in serialized records.
      verify_hashes: Compare each shard's SHA-256 with the manifest before it is first read; if
        False, only existence and size of all shards at the start.
      keep_aspect: Fit whole images into image_size as they are and fill the rest with black,
        which is ignored; otherwise squash. Random windows then have aspects near that of
        image_size, so that they are little distorted, instead of near that of their image.
      cache: 'none'; 'memory', or a folder on a local disk: shards are copied there before
        training, for data sets in buckets or on slow disks.
      cache_decoded: Keep the training images there decoded, instead of copies of the shards: each
        JPEG is decoded once and not in every epoch, and takes some ten times as much space.
        Batches stay the same, but for windows of at least twice image_size: these are averaged
        in another way. Validation images are kept in memory at image_size, if that takes less
        than a quarter of what is free.
      cache_short_side: With cache_decoded: images whose shorter side is longer are brought to this,
        in pixels; 0 keeps all as they are.
      service_address: A tf.data service whose workers decode instead of this machine, such as
        grpc://host:5050; the order of examples then varies.
      input_threads: Threads of the input alone; 0 shares TensorFlow's, one per core.
      ram_budget_mib: Limit of the input's buffers; 0 leaves it to tf.data.
      deterministic: The n-th batch is always the same; otherwise a slow record does not hold
        up the next ones.
      share_files: With several hosts, each reads only its own shards where they divide evenly.
        Less is read, but batches then depend on the number of hosts.
      feature_cache_dir: A folder for the features of every image (and, with augment.flip, of
        its mirror image), computed once: the encoder, or as much of it as stays frozen, is
        then not computed while training. '' is none.
      feature_dtype: How features are stored: uint8 (with a scale for each image's channels, and a
        least value where they may be negative) or float16.
      feature_crops: Number of fixed windows of each image that are stored too, drawn once by
        augment.min_crop_area and augment.max_crop_aspect.
      masks_of: Train with the masks of some images alone: those whose class is in a group, as in
        species=dog or class=beagle,boxer, with patterns such as S*; '' is all. Validation has all
        masks, and reports images with and without apart.
      without_mask: What the other images are trained with: ignored, no pixel of theirs; or box, the
        box around their object, filled with its class.
      image_classes: Names of the classes that whole images have, where masks_of or
        model.class_masks needs them; () takes the data set's.
    """

    dir: str = setting("", is_path=True, **_HIDDEN)
    label_map: str = setting("", **_SHOWN)
    image_size: ImageSize = setting(
        224, multiple_of=32, at_most=_MAX_IMAGE_SIZE, is_size=True, **_SHOWN
    )
    batch_size: int = setting(16, at_least=1, at_most=_MAX_BATCH_SIZE, **_SHOWN)
    shuffle_records: int = setting(4096, at_least=1)
    verify_hashes: bool = setting(True, **_HIDDEN)
    keep_aspect: bool = setting(False)
    cache: str = setting("none", is_path=True, not_paths=("none", "memory"), **_HIDDEN)
    cache_decoded: bool = setting(False, **_HIDDEN)
    cache_short_side: int = setting(0, at_least=0, **_SHOWN)
    service_address: str = setting("", **_HIDDEN)
    input_threads: int = setting(0, at_least=0, **_HIDDEN)
    ram_budget_mib: int = setting(0, at_least=0, **_HIDDEN)
    deterministic: bool = setting(True, **_FREE)
    share_files: bool = setting(False, **_HIDDEN)
    feature_cache_dir: str = setting("", is_path=True, resume=Resume.SAME_PRESENCE)
    feature_dtype: str = setting("uint8", choices=FEATURE_DTYPES)
    feature_crops: int = setting(0, at_least=0)
    masks_of: str = setting("")
    without_mask: str = setting("ignored", choices=WITHOUT_MASK)
    image_classes: tuple[str, ...] = setting((), hparam=Hparam.NEVER)


@dataclasses.dataclass
class ModelConfig(Section):
    """The network.

    Attributes:
      encoder: A name of registry.ENCODERS: vgg16 and vgg19; resnet50, mobilenet_v2,
        efficientnet_v2_b0 and _b3, convnext_tiny (without a level 1), of keras.applications; plain,
        the convolutions and pools of a U-Net with group normalisation, to be trained from scratch.
      decoder: A name of registry.DECODERS. fcn32s, fcn16s, fcn8s and fcn2s score 1, 2, 3 and all
        5 levels and add the scores from deep to shallow; fpn adds normalised features of
        levels 5 to 2, with convolutions between; unet concatenates features of all levels and
        the image; segnet puts features back where max pooling found them, so it needs an encoder
        with max pooling and does not work with feature_cache_dir; pspnet adds averages over 1,
        2, 3 and 6 regions a side to the deepest features, from images of at least 96 pixels a
        side; deeplab_v3_plus convolves them at several dilations and adds level 2.
      encoder_weights: 'imagenet' (Keras downloads them; not for plain), 'none', or the path of a
        Keras weights file without the top.
      encoder_width: Channels of the encoder's first stage, by which all others grow or shrink (for
        resnet50 of its first bottlenecks; for mobilenet_v2 and efficientnet_v2_* a multiple of 8);
        0 is the published network's.
      encoder_convs: Convolutions, or for resnet50, efficientnet_v2_* and convnext_tiny blocks, of
        each of the encoder's stages; () is the published network's.
      decoder_channels: Width of the decoder: for fcn* the channels of each level's scores, where
        0 is one per class as published; for fpn the channels at its finest level, a multiple
        of 8, doubled from each level to the next deeper one.
      dropout_rate: Share of the channels of each level that is dropped while training.
      presence: Add a head that tells which classes an image holds, by the mean of the deepest
        features; it needs the term presence in train.loss, as in cross_entropy+dice+0.5*presence.
        A class that is absent is then predicted nowhere in the image.
      class_masks: Add a head that tells the image's own class and the box around its object, from
        the deepest features; it needs the terms image_class and box in train.loss. shared: masks
        are the decoder's, the same for all classes; transfer: their weights follow from those
        that tell the class and the box, so that classes without masks (data.masks_of) have some,
        too; summed: both. none has no such head.
      start_from: Another run's folder, whose newest weights replace encoder_weights and the
        decoder's random ones; '' for none. The encoder must be the same; of the same decoder
        the layers of the same shape are taken, but those of the classes only if these are the
        same. What is not taken is initialised, and named.
    """

    _renamed: ClassVar = {
        "head": "model.decoder",
        "backbone_weights": "model.encoder_weights",
        "backbone_width": "model.encoder_width",
        "backbone_convs": "model.encoder_convs",
        "score_channels": "model.decoder_channels",
        "head_width": "model.decoder_channels",
    }

    encoder: str = setting("vgg16", choices=ENCODERS, **_SHOWN)
    decoder: str = setting("fcn8s", choices=DECODERS, **_SHOWN)
    encoder_weights: str = setting("imagenet", is_path=True, not_paths=("imagenet", "none"))
    encoder_width: int = setting(0, at_least=0, at_most=_MAX_CHANNELS)
    encoder_convs: tuple[int, ...] = setting((), at_least=1, at_most=100)
    decoder_channels: int = setting(32, at_least=0, at_most=_MAX_CHANNELS)
    dropout_rate: float = setting(0.05, at_least=0, at_most=0.95)
    presence: bool = setting(False)
    class_masks: str = setting("none", choices=CLASS_MASKS)
    start_from: str = setting("", is_path=True)


@dataclasses.dataclass
class Stage(Section):
    """A part of a run, with its own trainable weights, schedule and optimizer.

    Attributes:
      trainable: decoder, a stage of the encoder (it, all after it, and the decoder), or all.
      epochs: Passes over the training split; may be a fraction.
      learning_rate: Its peak; the schedule restarts with each stage.
    """

    trainable: str = setting("decoder")
    epochs: float = setting(4.0, above=0)
    learning_rate: float = setting(5e-3, above=0)


@dataclasses.dataclass
class TrainConfig(Section):
    """How it is trained.

    Attributes:
      trainable: For a run of one stage: decoder, a stage of the encoder (it, all after it, and
        the decoder), or all.
      epochs: For a run of one stage: passes over the training split; may be a fraction.
      learning_rate: For a run of one stage: its peak.
      stages: The stages of a run that has several, in order, instead of the three settings
        above; in a recipe, [Stage('decoder', 4.0, 5e-3), Stage('block5', 2.0, 1e-4)].
      loss: A sum of terms, each with a weight or without, as in cross_entropy+0.5*dice: names of
        registry.LOSSES. distillation needs a teacher, as in cross_entropy+0.5*distillation;
        presence needs model.presence, image_class and box need model.class_masks.
      teacher: Another run's folder, of the same classes and image size, whose newest weights the
        term distillation follows: KL divergence between the softened probabilities of each
        pixel. They never change, and a resumed run must have the same. '' for none.
      teacher_temperature: By which both models' logits are divided for that; the divergence is
        multiplied by its square.
      class_weights: For the cross-entropies: none; balanced, by the pixels that the manifest
        counts in the training split; or a number for each class, as in 1,1,2.5.
      label_smoothing: For the cross-entropies: share of the truth spread over all classes.
      seed: Of the weights, the order, the augmentation and the dropout.
      log_every_steps: Steps between two points of the training curves.
      evaluate_every_epochs: Epochs between two evaluations, each with a checkpoint; may be a
        fraction.
      save_every_minutes: A checkpoint is also written at least this often; 0 is never.
      keep_checkpoints: Number of latest checkpoints that are kept, beside the best one.
      best_metric: Which metric chooses the best checkpoint: a name of registry.METRICS, or for
        those of each class iou/CLASS and the like.
      panel_images: Number of validation images in TensorBoard's panel, and of worst ones at the
        end.
      histograms: Write histograms of the decoder's weights and gradients to TensorBoard.
      profile_steps: First step of a profile for TensorBoard, and the step before which it ends;
        () for none.
      bottleneck_seconds: How long each part of the input and the model is measured before the
        first step, to report what limits training; 0 leaves it out.
    """

    _renamed: ClassVar = {
        "trained": "train.trainable",
        "then": "train.stages (all stages, the first included)",
        "doctor_seconds": "train.bottleneck_seconds",
    }

    trainable: str = setting("decoder", resume=Resume.FREE, **_SHOWN)
    epochs: float = setting(4.0, above=0, resume=Resume.FREE, **_SHOWN)
    learning_rate: float = setting(5e-3, above=0, resume=Resume.FREE, **_SHOWN)
    stages: list[Stage] = setting([], **_FREE)
    loss: str = setting("cross_entropy+dice", resume=Resume.FREE, **_SHOWN)
    teacher: str = setting("", is_path=True, resume=Resume.SAME_PRESENCE)
    teacher_temperature: float = setting(2.0, above=0, at_most=100, **_FREE)
    class_weights: str = setting("none", **_FREE)
    label_smoothing: float = setting(0.0, at_least=0, at_most=0.9, **_FREE)
    seed: int = setting(0, at_least=0, at_most=2**31 - 1, **_SHOWN)
    log_every_steps: int = setting(10, at_least=1, **_HIDDEN)
    evaluate_every_epochs: float = setting(1.0, above=0, **_HIDDEN)
    save_every_minutes: float = setting(10.0, at_least=0, **_HIDDEN)
    keep_checkpoints: int = setting(3, at_least=1, **_HIDDEN)
    best_metric: str = setting("mean_iou", **_HIDDEN)
    panel_images: int = setting(8, at_least=1, **_HIDDEN)
    histograms: bool = setting(False, **_HIDDEN)
    profile_steps: tuple[int, ...] = setting((), **_HIDDEN)
    bottleneck_seconds: float = setting(1.0, at_least=0, **_HIDDEN)


@dataclasses.dataclass
class OptimizerConfig(Section):
    """How gradients change the weights.

    Attributes:
      name: adam, adamw (decoupled weight decay) or sgd (with momentum).
      momentum: For sgd.
      weight_decay: Share of a kernel that is removed per step, times the learning rate; biases
        and norms are left alone. Not for adam: use adamw.
      clip_norm: Greatest norm of the gradient over all weights together; 0 does not clip.
      encoder_rate_factor: Factor of the learning rate for the encoder's weights, where they are
        trained.
      average_decay: Decay of the exponential moving average of the weights, which is then what
        is evaluated and exported; 0 keeps none.
      microbatches: Parts into which a replica's share of a batch is cut, computed one after the
        other to save memory; the result is that of the whole.
      schedule: Of the rate after the warm-up: constant, cosine or polynomial to 0, piecewise, or
        plateau (lower when best_metric stops rising).
      warmup_steps: Linear warm-up, at most half of a stage.
      power: For polynomial.
      drop_at: For piecewise: shares of the stage after which the rate drops.
      drop_factor: For piecewise and plateau: factor of each drop.
      patience_evaluations: For plateau: evaluations without a new best before a drop.
    """

    _renamed: ClassVar = {"backbone_rate_factor": "optimizer.encoder_rate_factor"}

    name: str = setting("adam", choices=OPTIMIZERS, **_SHOWN)
    momentum: float = setting(0.9, at_least=0, at_most=0.9999, **_FREE)
    weight_decay: float = setting(0.0, at_least=0, **_FREE)
    clip_norm: float = setting(0.0, at_least=0, **_FREE)
    encoder_rate_factor: float = setting(1.0, at_least=0, **_FREE)
    average_decay: float = setting(0.0, at_least=0, at_most=0.999999)
    microbatches: int = setting(1, at_least=1, **_FREE)
    schedule: str = setting("cosine", choices=SCHEDULES, **_FREE)
    warmup_steps: int = setting(50, at_least=0, **_FREE)
    power: float = setting(0.9, at_least=0, **_FREE)
    drop_at: tuple[float, ...] = setting((0.6, 0.85), **_FREE)
    drop_factor: float = setting(0.1, at_least=0, at_most=1, **_FREE)
    patience_evaluations: int = setting(2, at_least=1, **_FREE)


@dataclasses.dataclass
class DevicesConfig(Section):
    """What it runs on.

    Attributes:
      strategy: auto (several hosts if TF_CONFIG names them, else all GPUs of this machine, else
        one device), one_device, mirrored, multi_worker or tpu.
      cluster: How multi_worker finds its hosts: tf_config, slurm or kubernetes.
      cpu_replicas: With mirrored and no GPU, the number of logical CPU devices to rehearse on.
      precision: Of the model's arithmetic: float32, mixed_bfloat16 or mixed_float16 (with loss
        scaling); weights are float32 in any case.
      xla: Compile the forward and backward computation with XLA.
      force: Accept a precision or xla that is known to be slow or wrong on these devices.
      deterministic_ops: Use only operations that give the same bits each time.
    """

    strategy: str = setting("auto", choices=STRATEGIES, **_FREE)
    cluster: str = setting("tf_config", choices=CLUSTERS, **_HIDDEN)
    cpu_replicas: int = setting(0, at_least=0, **_FREE)
    precision: str = setting("float32", choices=PRECISIONS, **_FREE)
    xla: bool = setting(False, **_FREE)
    force: bool = setting(False, **_FREE)
    deterministic_ops: bool = setting(False, **_FREE)


@dataclasses.dataclass
class Config(Section):
    """All settings of a run.

    Attributes:
      data: What is read.
      augment: How training images vary.
      patches: Whether training is on patches around objects, and on which.
      model: The network.
      train: How it is trained.
      optimizer: How gradients change the weights.
      devices: What it runs on.
      plugins: Modules to import first, which register encoders, decoders, losses or metrics.
    """

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    augment: Augmentation = dataclasses.field(default_factory=Augmentation)
    patches: PatchSampling = dataclasses.field(default_factory=PatchSampling)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    devices: DevicesConfig = dataclasses.field(default_factory=DevicesConfig)
    plugins: tuple[str, ...] = setting((), resume=Resume.FREE, hparam=Hparam.NEVER)

    def stages(self) -> list[Stage]:
        """The stages of the run: those of train.stages, or the one that train describes."""
        train = self.train
        if train.stages:
            return list(train.stages)
        return [Stage(train.trainable, train.epochs, train.learning_rate)]
