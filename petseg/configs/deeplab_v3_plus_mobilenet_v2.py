"""Oxford-IIIT pets: DeepLabv3+ on MobileNetV2, trained whole; small enough for telephones.

petseg-train --config=deeplab_v3_plus_mobilenet_v2 --workdir=RUN --config.data.dir=OUT

Its decoder on frozen features, with the settings of oxford_pets_features (pets of 128 px, 6 epochs,
three seeds): mean IoU 0.7126 of three classes. All of it trained was not measured.
"""

from petseg.config import Config, Stage


def get_config() -> Config:
    """The decoder first, then all."""
    config = Config()
    config.model.encoder = "mobilenet_v2"
    config.model.decoder = "deeplab_v3_plus"
    config.augment.min_crop_area = 0.5
    config.train.stages = [Stage("decoder", 4.0, 2e-3), Stage("all", 16.0, 5e-4)]
    config.optimizer.encoder_rate_factor = 0.2
    config.train.evaluate_every_epochs = 2.0
    return config
