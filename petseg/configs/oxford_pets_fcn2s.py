"""Oxford-IIIT pets: scores of all five levels of a frozen VGG16, added from deep to shallow.

petseg-train --config=oxford_pets_fcn2s --workdir=RUN --config.data.dir=OUT
"""

from petseg.config import Config


def get_config() -> Config:
    """The defaults with some changes."""
    config = Config()
    config.model.decoder = "fcn2s"
    return config
