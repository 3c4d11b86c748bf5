"""A few dozen images of your own: FCN-8s on a frozen MobileNetV2, in minutes without a GPU.

petseg-train --config=few_images --workdir=RUN --config.data.dir=OUT

Downloads 9 MB of ImageNet weights once.
"""

from petseg.config import Config


def get_config() -> Config:
    """The defaults with some changes."""
    config = Config()
    config.model.encoder = "mobilenet_v2"
    config.data.batch_size = 8
    config.augment.min_crop_area = 0.5
    config.augment.brightness = 0.2
    config.augment.contrast = 0.2
    config.train.epochs = 30.0
    config.train.evaluate_every_epochs = 5.0
    return config
