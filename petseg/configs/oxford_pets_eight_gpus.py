"""Oxford-IIIT pets: an FPN on VGG16, all of it trained, for the eight GPUs of one machine.

petseg-train --config=oxford_pets_eight_gpus --workdir=RUN --config.data.dir=OUT

32 images a GPU, 256 a step. The rate and its warm-up follow Goyal et al. 2017, "Accurate, Large
Minibatch SGD": n times the batch takes n times the rate, reached in steps over the first epochs.
For other numbers of GPUs: docs/eight_gpus.md. Not measured: petseg has not run on a GPU.
"""

from petseg.config import Config

_GPUS = 8
_IMAGES_A_GPU = 32
# What one GPU would take with its 32 images.
_RATE_OF_ONE = 1e-2
_EPOCHS = 60.0
_WARMUP_EPOCHS = 5
_TRAINING_IMAGES = 3304  # of trainval, nine tenths


def get_config() -> Config:
    """The defaults with some changes."""
    config = Config()
    config.model.decoder = "fpn"
    config.model.dropout_rate = 0.1
    config.data.batch_size = _GPUS * _IMAGES_A_GPU
    # Each JPEG is decoded once: 8 GPUs ask for more images than cores decode.
    config.data.cache = "memory"
    config.data.cache_decoded = True
    config.augment.min_crop_area = 0.5
    config.augment.brightness = 0.2
    config.augment.contrast = 0.2
    config.train.trainable = "all"
    config.train.epochs = _EPOCHS
    # The rule is one of SGD; Adam's rates do not grow with the batch in this way.
    config.optimizer.name = "sgd"
    config.train.learning_rate = _GPUS * _RATE_OF_ONE
    config.optimizer.warmup_steps = _WARMUP_EPOCHS * _TRAINING_IMAGES // config.data.batch_size
    config.optimizer.weight_decay = 1e-4
    # VGG16 has no norms, which would bear a large step.
    config.optimizer.encoder_rate_factor = 0.1
    config.optimizer.clip_norm = 1.0
    config.train.evaluate_every_epochs = 5.0
    # 13 steps are an epoch.
    config.train.log_every_steps = 5
    return config
