"""Tiny settings, for tests."""

from pathlib import Path

from petseg.config import Config
from testing.encoders import TINY


def make_tiny_config(data_dir: Path) -> Config:
    """Settings that train in seconds."""
    config = Config()
    config.data.dir = str(data_dir)
    config.data.image_size = 32
    config.data.batch_size = 4
    config.model.encoder_weights = "none"
    config.model.encoder_width = 2
    config.model.encoder_convs = (1, 1, 1, 1, 1)
    config.data.label_map = "three_class"
    config.train.epochs = 2.0
    config.optimizer.warmup_steps = 2
    config.train.log_every_steps = 2
    config.train.panel_images = 2
    config.train.bottleneck_seconds = 0.0
    return config


def choose_tiny_encoder(config: Config, encoder: str) -> None:
    """Takes another encoder than VGG16, as small as it can be."""
    config.model.encoder = encoder
    config.model.encoder_width, config.model.encoder_convs = TINY[encoder]
