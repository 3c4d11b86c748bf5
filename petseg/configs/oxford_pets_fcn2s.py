"""Oxford-IIIT pets: scores of all five levels of a frozen VGG16, added from deep to shallow.

petseg-train --config=oxford_pets_fcn2s --workdir=RUN --config.data.dir=OUT

Result with its decoder and the settings of oxford_pets_features (pets of 128 px, 6 epochs, two
seeds): mean IoU 0.7281 of three classes.
"""

from petseg.config import Config


def get_config() -> Config:
    """The defaults with some changes."""
    config = Config()
    config.model.decoder = "fcn2s"
    return config
