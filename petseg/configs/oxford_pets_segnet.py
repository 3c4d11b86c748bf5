"""Oxford-IIIT pets: SegNet, which puts features back where VGG16's max pooling found them.

petseg-train --config=oxford_pets_segnet --workdir=RUN --config.data.dir=OUT

Features as large as images are needed, so that there is no feature cache: for a GPU, and not
measured.
"""

from petseg.config import Config


def get_config() -> Config:
    """The defaults with some changes."""
    config = Config()
    config.model.decoder = "segnet"
    config.train.learning_rate = 1e-3
    return config
