"""Oxford-IIIT pets: objectness and masks of patches, on a frozen MobileNetV2.

See docs/proposals.md.

  petseg-train --config=oxford_pets_proposals --workdir=RUN --config.data.dir=OUT
  petseg-evaluate --workdir=RUN --proposals
  petseg-predict --workdir=RUN --output_dir=PROPOSALS --write=proposals,proposal_pictures photo.jpg
"""

from petseg.config import Config


def get_config() -> Config:
    """The defaults with some changes."""
    config = Config()
    config.patches.enabled = True
    config.model.presence = True
    config.model.encoder = "mobilenet_v2"
    config.model.decoder = "fpn"
    config.data.label_map = "border_is_pet"
    config.data.image_size = 96
    config.data.batch_size = 32
    config.train.loss = "cross_entropy+dice+presence"
    config.train.epochs = 6.0
    config.train.learning_rate = 5e-3
    config.train.evaluate_every_epochs = 1.0
    config.optimizer.average_decay = 0.998
    return config
