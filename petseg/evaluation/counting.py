"""One pass over a split that counts the pixels of every image, at two sizes."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from petseg.cores import usable_cores
from petseg.data.label_map import IGNORE
from petseg.evaluation.label_map_views import MODEL_VIEW, LabelMapView
from petseg.inference import small_regions
from petseg.inference.postprocessing import PostprocessingOptions
from petseg.inference.predictor import Predictor
from petseg.inference.smoothing import smooth
from petseg.input_pipeline import resizing
from petseg.input_pipeline.class_ids import to_class_ids
from petseg.input_pipeline.stored_examples import Original
from petseg.metrics import boundaries, confusion, pixel_counts

BAND_RADII_PX = (2, 4, 8, 16)
# The model's size and the size of each image, by the names that the JSON file uses.
MODEL_SIZE, FULL_SIZE = "model_size", "own_size"
SIZES = (MODEL_SIZE, FULL_SIZE)
_IMAGES_AHEAD = 32

Key = tuple[str, str]  # name of a label-map view, size


@dataclasses.dataclass(frozen=True)
class Counts:
    """Integer counts over some images.

    Attributes:
      confusion: int64 [classes, classes], rows the truth.
      bands: int64 [radii, classes, classes], the same within BAND_RADII_PX of a true boundary;
        None unless counted in detail.
      boundary: int64 [classes, 2], from boundaries.count_boundaries; None likewise.
    """

    confusion: np.ndarray
    bands: np.ndarray | None = None
    boundary: np.ndarray | None = None

    def __add__(self, other: "Counts") -> "Counts":
        pairs = {
            field.name: (getattr(self, field.name), getattr(other, field.name))
            for field in dataclasses.fields(Counts)
        }
        return Counts(**{name: None if a is None else a + b for name, (a, b) in pairs.items()})


@dataclasses.dataclass(frozen=True)
class ImageScores:
    """Scores of one image.

    Attributes:
      index: position in the split, from 0.
      name: name of the image.
      mean_iou: by view and size; NaN where no pixel counts.
      areas: by view and size, int64 [classes, 3]; see metrics.confusion.areas.
    """

    index: int
    name: str
    mean_iou: dict[Key, float]
    areas: dict[Key, np.ndarray]


@dataclasses.dataclass
class SplitCounts:
    """Counts that grow with every image of a split.

    Attributes:
      counts: by view and size.
      groups: confusion matrices by kind of group and group, of the model's label map at the
        model's size.
      group_images: number of images, by the same.
      images: scores of each image, in the split's order.
    """

    counts: dict[Key, Counts] = dataclasses.field(default_factory=dict)
    groups: dict[str, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    group_images: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    images: list[ImageScores] = dataclasses.field(default_factory=list)

    def add(self, original: Original, groups: Mapping[str, str], counts: dict[Key, Counts]) -> None:
        """Adds the counts of an image, which belongs to some groups."""
        for key, of_image in counts.items():
            before = self.counts.get(key)
            self.counts[key] = of_image if before is None else before + of_image
        self.images.append(
            ImageScores(
                original.index,
                original.name,
                {key: confusion.mean_iou(of.confusion) for key, of in counts.items()},
                {key: confusion.areas(of.confusion) for key, of in counts.items()},
            )
        )
        for kind, group in groups.items():
            sums = self.groups.setdefault(kind, {})
            sums[group] = sums.get(group, 0) + counts[MODEL_VIEW, MODEL_SIZE].confusion
            images = self.group_images.setdefault(kind, {})
            images[group] = images.get(group, 0) + 1


def count_split(
    originals: Iterable[Original],
    predictor: Predictor,
    views: Mapping[str, LabelMapView],
    groups_of: Callable[[Original], dict[str, str]],
) -> SplitCounts:
    """Counts every pixel of a split once, at the model's size and at the images' full size.

    Post-processing, whose lengths are pixels of the images, is done at their full size alone.

    Args:
      originals: examples of the split.
      predictor: the model.
      views: by name, from label_map_views.list_views.
      groups_of: gives the groups that an image belongs to.
    """
    count_image = _make_count_image(views)
    options = predictor.options
    split_counts = SplitCounts()

    def count(original: Original, view_logits: list[tf.Tensor]) -> dict[Key, Counts]:
        height, width = map(tf.constant, np.int32(original.mask.shape))
        fitted = resizing.fitted(height, width, options.image_size, options.keep_aspect)
        small = predictor.average(view_logits, *fitted)
        full = predictor.average(view_logits, height, width)
        by_size = {
            MODEL_SIZE: count_image(small, original.mask, PostprocessingOptions()),
            FULL_SIZE: count_image(full, original.mask, options.postprocessing),
        }
        return {
            (name, size): counts
            for size, by_view in by_size.items()
            for name, counts in by_view.items()
        }

    # Images are counted in threads while the model predicts the next ones.
    with ThreadPoolExecutor(usable_cores()) as pool:
        waiting: collections.deque[tuple[Original, Future]] = collections.deque()

        def add_oldest() -> None:
            original, counting = waiting.popleft()
            split_counts.add(original, groups_of(original), counting.result())

        for original, view_logits in _with_logits(originals, predictor):
            waiting.append((original, pool.submit(count, original, view_logits)))
            if len(waiting) > _IMAGES_AHEAD:
                add_oldest()
        while waiting:
            add_oldest()
    return split_counts


def _with_logits(
    originals: Iterable[Original], predictor: Predictor
) -> Iterator[tuple[Original, list[tf.Tensor]]]:
    """Yields each example with the logits of its views; holds one batch of examples."""
    waiting: collections.deque[Original] = collections.deque()

    def images() -> Iterator[np.ndarray]:
        for original in originals:
            waiting.append(original)
            yield original.image

    for view_logits in predictor.predict_views(images()):
        yield waiting.popleft(), view_logits


def _make_count_image(
    views: Mapping[str, LabelMapView],
) -> Callable[[tf.Tensor, np.ndarray, PostprocessingOptions], dict[str, Counts]]:
    """A function: probabilities at some size, the raw mask, post-processing -> counts by view."""
    probabilities = tf.TensorSpec([None, None, len(views[MODEL_VIEW].merging)], tf.float32)
    mask = tf.TensorSpec([None, None], tf.uint8)

    @tf.function(autograph=False, input_signature=[probabilities])
    def classify(probabilities: tf.Tensor) -> dict[str, tf.Tensor]:
        merged = {
            name: probabilities
            if name == MODEL_VIEW
            else tf.linalg.matmul(probabilities, view.merging)
            for name, view in views.items()
        }
        return {name: tf.cast(tf.argmax(one, axis=-1), tf.uint8) for name, one in merged.items()}

    @tf.function(autograph=False, input_signature=[dict.fromkeys(views, mask), mask])
    def count(predicted: dict[str, tf.Tensor], raw: tf.Tensor) -> dict[str, dict[str, tf.Tensor]]:
        sides = tf.shape(predicted[MODEL_VIEW])
        rows = resizing.nearest(0, tf.shape(raw)[0], sides[0])
        columns = resizing.nearest(0, tf.shape(raw)[1], sides[1])
        resized = resizing.sample(raw, rows, columns)
        counts = {}
        for name, view in views.items():
            truth = to_class_ids(resized, view.label_map.class_ids())
            num_classes, is_detailed = view.label_map.num_classes, name == MODEL_VIEW
            counts[name] = _count_one(truth, predicted[name], num_classes, is_detailed)
        return counts

    def count_image(
        probabilities: tf.Tensor, raw: np.ndarray, options: PostprocessingOptions
    ) -> dict[str, Counts]:
        if options.smooth_sigma_px:
            probabilities = tf.constant(smooth(probabilities.numpy(), options.smooth_sigma_px))
        predicted = classify(probabilities)
        if options.min_area_px:
            predicted = {
                name: tf.constant(small_regions.remove_small(one.numpy(), options.min_area_px))
                for name, one in predicted.items()
            }
        return {
            name: Counts(**{key: value.numpy() for key, value in counts.items()})
            for name, counts in count(predicted, tf.constant(raw)).items()
        }

    return count_image


def _count_one(
    truth: tf.Tensor, predicted: tf.Tensor, num_classes: int, is_detailed: bool
) -> dict[str, tf.Tensor]:
    """The fields of Counts of one image; bands and boundaries only in detail."""
    ignored = tf.fill(tf.shape(truth), tf.constant(IGNORE, tf.uint8))
    # As one stack: the whole image, then its bands.
    bands = boundaries.border_bands(truth, BAND_RADII_PX) if is_detailed else []
    truths = tf.stack([truth, *(tf.where(band, truth, ignored) for band in bands)])
    pairs = pixel_counts.count_pairs(truths, tf.stack([predicted] * (1 + len(bands))), num_classes)
    if not is_detailed:
        return {"confusion": pairs[0]}
    boundary = boundaries.count_boundaries(truth, predicted, num_classes)
    return {"confusion": pairs[0], "bands": pairs[1:], "boundary": boundary}
