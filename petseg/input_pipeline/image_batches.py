"""Batches of images as the input of a run."""

import dataclasses
from typing import ClassVar

import tensorflow as tf

from petseg.input_pipeline import names, pipeline
from petseg.input_pipeline.pictures import ENCODED, Pictures
from petseg.input_pipeline.pipeline import InputOptions
from petseg.input_pipeline.reading import Shards


@dataclasses.dataclass(frozen=True)
class ImageBatches:
    """A BatchSource whose batches hold images, whatever is trained.

    Attributes:
      train_shards: The training split.
      validation_shards: The validation split.
      options: How batches are made.
      worker: Index of this host among those that share each global batch.
      num_workers: Number of hosts.
      train_pictures: What the records of the training shards hold; by default a JPEG and a PNG.
      keeps_validation: Keep the examples of the validation split in memory, once they were read.
    """

    has_images: ClassVar[bool] = True

    train_shards: Shards
    validation_shards: Shards
    options: InputOptions
    worker: int = 0
    num_workers: int = 1
    train_pictures: Pictures = ENCODED
    keeps_validation: bool = False

    def train(self, trainable: str, start_step: int) -> tf.data.Dataset:
        """See BatchSource.train and pipeline.make_for_train."""
        del trainable
        return pipeline.make_for_train(
            self.train_shards,
            self.options,
            start_step=start_step,
            worker=self.worker,
            num_workers=self.num_workers,
            pictures=self.train_pictures,
        )

    def validation(self, trainable: str) -> tf.data.Dataset:
        """See BatchSource.validation and pipeline.make_for_eval."""
        del trainable
        return pipeline.make_for_eval(
            self.validation_shards.paths,
            self.options,
            worker=self.worker,
            num_workers=self.num_workers,
            verified=self.validation_shards.verified,
            is_kept=self.keeps_validation,
        )

    def names_in_batch(self, step: int) -> list[str] | None:
        """See BatchSource.names_in_batch."""
        return names.names_in_batch([self.train_shards], self.options, step, self.num_workers)
