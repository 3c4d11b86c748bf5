"""Batches of cached features as the input of a run."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import tensorflow as tf

from petseg.feature_cache import pipeline
from petseg.feature_cache.cache import FeatureCache
from petseg.input_pipeline import names
from petseg.input_pipeline.pipeline import InputOptions


@dataclasses.dataclass(frozen=True)
class FeatureBatches:
    """A BatchSource whose batches hold features of the stages that stay the same.

    Attributes:
      cache: An open feature cache.
      cacheable_stages: SegmentationModel.cacheable_stages of the run's model.
      options: How batches are made.
      worker: Index of this host among those that share each global batch.
      num_workers: Number of hosts.
    """

    has_images: ClassVar[bool] = False

    cache: FeatureCache
    cacheable_stages: Callable[[str], tuple[str, ...]]
    options: InputOptions
    worker: int = 0
    num_workers: int = 1

    def train(self, trainable: str, start_step: int) -> tf.data.Dataset:
        """See BatchSource.train and feature_cache.pipeline.make_for_train."""
        return pipeline.make_for_train(
            self.cache.train,
            self.cache.layout,
            self.cacheable_stages(trainable),
            self.options,
            start_step=start_step,
            worker=self.worker,
            num_workers=self.num_workers,
        )

    def validation(self, trainable: str) -> tf.data.Dataset:
        """See BatchSource.validation and feature_cache.pipeline.make_for_eval."""
        return pipeline.make_for_eval(
            self.cache.validation.paths,
            self.cache.layout,
            self.cacheable_stages(trainable),
            self.options,
            worker=self.worker,
            num_workers=self.num_workers,
            verified=self.cache.validation.verified,
        )

    def names_in_batch(self, step: int) -> list[str] | None:
        """See BatchSource.names_in_batch."""
        return names.names_in_batch(self.cache.train, self.options, step, self.num_workers)
