"""The toy pets of petseg-quickstart: a small network, trained whole in about a minute.

  petseg-train --config=quickstart --workdir=RUN --config.data.dir=OUT

Downloads nothing: the encoder is a narrow VGG16 with random weights.
"""

from petseg.config import Config


def get_config() -> Config:
    """The defaults with some changes."""
    config = Config()
    config.data.label_map = "border_ignored"
    config.data.image_size = 128
    config.data.batch_size = 8
    config.model.decoder = "fcn2s"
    config.model.encoder_weights = "none"
    config.train.trainable = "all"
    config.model.encoder_width = 16
    config.model.encoder_convs = (1, 1, 2, 2, 2)
    config.model.dropout_rate = 0.0
    config.train.epochs = 10.0
    config.train.learning_rate = 4e-3
    config.optimizer.warmup_steps = 60
    config.train.evaluate_every_epochs = 2.0
    return config
