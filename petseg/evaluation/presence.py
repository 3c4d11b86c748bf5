"""What a run's presence head says of the images of a split."""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from petseg.data.label_map import IGNORE
from petseg.evaluation.counting import MODEL_SIZE, ImageScores
from petseg.evaluation.label_map_views import MODEL_VIEW
from petseg.input_pipeline import resizing
from petseg.input_pipeline.stored_examples import Original
from petseg.metrics.measure import image_counts
from petseg.metrics.presence import Presence
from petseg.models.encoders.base import IMAGE
from petseg.run_dir.trained_model import TrainedModel


def judge_presence(
    originals: Iterable[Original], images: Sequence[ImageScores], trained: TrainedModel
) -> Presence:
    """Runs the presence head on whole images at the model's size, without TTA.

    Only the encoder is run, as far as the head's features.

    Args:
      originals: Examples of the split, read once more.
      images: Their scores, from counting.count_split, in the same order.
      trained: A model with a presence head.
    """
    model, data = trained.model, trained.config.data

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])
    def fit(image: tf.Tensor) -> tf.Tensor:
        return resizing.resize_image(image, data.image_size, data.keep_aspect)

    @tf.function(autograph=False, reduce_retracing=True)
    def judge(batch: tf.Tensor) -> tf.Tensor:
        deepest = model.features({IMAGE: batch}, model.level_stages[:1])[0]
        return model.presence(deepest, training=False)

    fitted, logits = (fit(original.image) for original in originals), []
    while batch := list(itertools.islice(fitted, data.batch_size)):
        logits.append(judge(tf.stack(batch)).numpy().astype(np.float64))
    areas = np.stack([image.areas[MODEL_VIEW, MODEL_SIZE] for image in images])
    counts = image_counts(areas, trained.label_map.names)
    is_counted = counts.truth.sum(1, keepdims=True) > 0
    labels = np.where(is_counted, counts.truth > 0, IGNORE).astype(np.uint8)
    return Presence(1 / (1 + np.exp(-np.concatenate(logits))), counts, labels)
