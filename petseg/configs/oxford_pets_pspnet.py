"""Oxford-IIIT pets: PSPNet on a frozen ResNet-50, from features that are computed once.

  petseg-train --config=oxford_pets_pspnet --workdir=RUN \\
      --config.data.dir=OUT --config.data.feature_cache_dir=FEATURES

Not measured: ImageNet's weights of ResNet-50 were not at hand.
"""

from petseg.config import Config


def get_config() -> Config:
    """The defaults with some changes."""
    config = Config()
    config.model.encoder = "resnet50"
    config.model.decoder = "pspnet"
    config.train.learning_rate = 1e-3
    config.train.epochs = 16.0
    config.train.evaluate_every_epochs = 2.0
    return config
