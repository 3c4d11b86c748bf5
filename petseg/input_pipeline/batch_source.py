"""What training asks of its input, whether batches hold images or cached features."""

from typing import Protocol

import tensorflow as tf


class BatchSource(Protocol):
    """This host's share of every batch of a run.

    A batch is a dict with `mask`, uint8 [batch, height, width], class ids or IGNORE, and either
    `image`, uint8 [batch, height, width, 3], RGB, or what models.features.encode gave for the
    stages that stay the same while `trainable` is trained.

    Attributes:
      has_images: Whether batches hold images, whatever is trained.
    """

    has_images: bool

    def train(self, trainable: str, start_step: int) -> tf.data.Dataset:
        """Training batches, endless.

        Args:
          trainable: What the run's stage trains: 'decoder', a stage of the encoder, or 'all'.
          start_step: The first batch, counted from the start of the run.
        """

    def validation(self, trainable: str) -> tf.data.Dataset:
        """One pass over the validation split.

        Batches also hold `weight`, int64 [batch]: 1, or 0 for an example that only fills up
        the last batch and whose mask is all IGNORE.

        Args:
          trainable: What the run's stage trains.
        """

    def names_in_batch(self, step: int) -> list[str] | None:
        """Names of the images in a training batch; None where the order varies.

        Args:
          step: The batch, counted from the start of the run.
        """
