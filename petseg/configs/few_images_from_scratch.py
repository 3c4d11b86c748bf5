"""A few dozen images of your own and no network for weights: a small model, trained whole.

petseg-train --config=few_images_from_scratch --workdir=RUN --config.data.dir=OUT

The model of the quickstart, in about a minute without a GPU. It shows that images, masks and
commands are right, and suits simple shapes; of photographs few_images makes far more.
"""

from petseg.config import Config
from petseg.configs import quickstart


def get_config() -> Config:
    """Those of the quickstart with some changes."""
    config = quickstart.get_config()
    config.data.label_map = ""
    config.train.epochs = 60.0
    config.train.evaluate_every_epochs = 10.0
    return config
