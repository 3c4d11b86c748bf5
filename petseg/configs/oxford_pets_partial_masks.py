"""Oxford-IIIT pets: the masks of some breeds alone teach those of the others.

  petseg-train --config=oxford_pets_partial_masks --workdir=RUN --config.data.dir=OUT \\
      --config.data.feature_cache_dir=FEATURES --config.data.masks_of=species=dog
  python -m petseg.cli.compare_partial_masks --config=oxford_pets_partial_masks \\
      --experiment_dir=DIR --config.data.dir=OUT --masks_of=species=dog --masks_of=species=cat
"""

from petseg.config import Config


def get_config() -> Config:
    """The defaults with some changes."""
    config = Config()
    config.data.label_map = "border_is_pet"
    config.data.image_size = 128
    config.model.encoder = "mobilenet_v2"
    config.model.decoder = "fcn8s"
    config.model.decoder_channels = 16
    config.model.class_masks = "transfer"
    config.model.dropout_rate = 0.1
    config.train.loss = "cross_entropy+image_class+box"
    config.train.epochs = 3.0
    config.train.evaluate_every_epochs = 3.0
    config.train.bottleneck_seconds = 0.0
    config.optimizer.name = "adamw"
    config.optimizer.weight_decay = 0.5
    return config
