"""Oxford-IIIT pets, as configs/oxford_pets.py, but from features that are computed once.

  python -m petseg.train --config=configs/oxford_pets_features.py --workdir=RUN \\
      --config.data.dir=OUT --config.data.feature_cache_dir=FEATURES
"""

from petseg.config import Config


def get_config() -> Config:
    """What differs from the defaults."""
    config = Config()
    config.model.head = "wide"
    config.model.dropout_rate = 0.25
    config.train.learning_rate = 2e-3
    config.train.epochs = 16.0
    # The head learns these few views by heart otherwise; its norms make up for the shrinking.
    config.optimizer.name = "adamw"
    config.optimizer.weight_decay = 0.5
    config.train.evaluate_every_epochs = 2.0
    return config
