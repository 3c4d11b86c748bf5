"""Oxford-IIIT pets: a skip head on frozen ImageNet VGG16.

python -m petseg.train --config=configs/oxford_pets.py --workdir=RUN --config.data.dir=OUT
"""

from petseg.config import Config


def get_config() -> Config:
    """The settings, all at their defaults."""
    return Config()
