"""Oxford-IIIT pets: fine-tunes the last two blocks of VGG16 under a trained decoder.

  petseg-train --config=oxford_pets_fine_tuned --workdir=RUN2 \\
      --config.data.dir=OUT --config.model.start_from=RUN

RUN is a run of the recipe oxford_pets_features.

Result (pets squashed to 128 px, shown at 224; two seeds): mean IoU 0.8033 of three classes, no
more than RUN has; docs/experiments.md says what else was tried.
"""

from petseg.config import Config


def get_config() -> Config:
    """The defaults with some changes."""
    config = Config()
    config.model.decoder = "fpn"
    config.model.dropout_rate = 0.25
    config.data.batch_size = 32
    config.augment.min_crop_area = 0.8
    config.augment.brightness = 0.1
    config.augment.contrast = 0.1
    config.train.trainable = "block4"
    config.train.epochs = 4.0
    config.train.learning_rate = 5e-4
    config.optimizer.name = "adamw"
    config.optimizer.weight_decay = 0.5
    # Adam moves every weight by about its rate a step; VGG16 has no norms to absorb that.
    config.optimizer.encoder_rate_factor = 0.04
    config.optimizer.warmup_steps = 100
    config.optimizer.average_decay = 0.99
    return config
