"""VGG16's last two blocks with a head that was trained before, on images that vary.

  python -m petseg.train --config=configs/oxford_pets_fine_tuned.py --workdir=RUN2 \\
      --config.data.dir=OUT --config.model.start_from=RUN

RUN is one of configs/oxford_pets_features.py.
"""

from petseg.config import Config


def get_config() -> Config:
    """What differs from the defaults."""
    config = Config()
    config.model.head = "wide"
    config.model.dropout_rate = 0.25
    config.data.batch_size = 32
    config.augment.min_crop_area = 0.8
    config.augment.brightness = 0.1
    config.augment.contrast = 0.1
    config.train.trained = "block4"
    config.train.epochs = 4.0
    config.train.learning_rate = 5e-4
    config.optimizer.name = "adamw"
    config.optimizer.weight_decay = 0.5
    # Adam moves every weight by about its rate a step, and VGG16 has no norms to absorb that.
    config.optimizer.backbone_rate_factor = 0.04
    config.optimizer.warmup_steps = 100
    config.optimizer.average_decay = 0.99
    return config
