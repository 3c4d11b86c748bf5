"""A head on features, as configs/oxford_pets_features.py, then VGG16's last two blocks with it.

  python -m petseg.train --config=configs/oxford_pets_fine_tuned.py --workdir=RUN \\
      --config.data.dir=OUT --config.data.feature_cache_dir=FEATURES
"""

from petseg.config import Config, Stage


def get_config() -> Config:
    """What differs from the defaults."""
    config = Config()
    config.model.head = "wide"
    config.model.dropout_rate = 0.15
    config.train.learning_rate = 2e-3
    config.train.epochs = 12.0
    config.train.then = [
        Stage("block5", epochs=3.0, learning_rate=1e-4),
        Stage("block4", epochs=2.0, learning_rate=5e-5),
    ]
    return config
