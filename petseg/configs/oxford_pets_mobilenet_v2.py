"""Oxford-IIIT pets: an FPN on MobileNetV2, all of it trained, first on small images, then on large.

  petseg-train --config=oxford_pets_mobilenet_v2 --workdir=RUN --config.data.dir=OUT
  petseg-train --config=oxford_pets_mobilenet_v2 --workdir=RUN2 --config.data.dir=OUT \\
      --config.model.start_from=RUN --config.data.image_size=256 --config.train.epochs=5 \\
      --config.train.learning_rate=7e-4

Result (pets squashed to 128 px, three classes, one seed; weights of ImageNet, touched up on dogs):
RUN has a mean IoU of 0.7766, RUN2 of 0.7923, with --flip 0.7951.
"""

from petseg.config import Config


def get_config() -> Config:
    """The defaults with some changes."""
    config = Config()
    config.model.encoder = "mobilenet_v2"
    config.model.decoder = "fpn"
    config.model.dropout_rate = 0.1
    config.data.image_size = 128
    # Decoding once leaves the cores to the model.
    config.data.cache = "memory"
    config.data.cache_decoded = True
    config.augment.min_crop_area = 0.5
    config.augment.brightness = 0.2
    config.augment.contrast = 0.2
    config.train.trainable = "all"
    config.train.epochs = 10.0
    config.train.learning_rate = 1e-3
    config.train.evaluate_every_epochs = 2.0
    config.optimizer.name = "adamw"
    # The norms' frozen statistics do not compensate for smaller kernels: little decay.
    config.optimizer.weight_decay = 0.05
    config.optimizer.encoder_rate_factor = 0.3
    config.optimizer.warmup_steps = 200
    config.optimizer.average_decay = 0.998
    return config
