"""U-Net without weights from elsewhere, for images that resemble no photograph, as ultrasound.

petseg-train --config=unet_from_scratch --workdir=RUN --config.data.dir=OUT
"""

from petseg.config import Config


def get_config() -> Config:
    """The defaults with some changes."""
    config = Config()
    config.model.encoder = "plain"
    config.model.encoder_weights = "none"
    config.model.decoder = "unet"
    config.model.dropout_rate = 0.0
    config.data.image_size = 128
    config.augment.min_crop_area = 0.5
    config.train.trainable = "all"
    config.train.epochs = 40.0
    config.train.learning_rate = 1e-3
    config.train.evaluate_every_epochs = 4.0
    config.optimizer.warmup_steps = 200
    return config
