"""One pass over a split: what is counted, of each image and in all."""

import collections
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from petseg.data.label_map import IGNORE, LabelMap
from petseg.inference import forward
from petseg.input_pipeline import resizing
from petseg.input_pipeline.class_ids import to_class_ids
from petseg.input_pipeline.pipeline import Original
from petseg.metrics import boundaries, pixel_counts

BAND_RADII_PX = (2, 4, 8, 16)
MODEL_SIZE, OWN_SIZE = "model_size", "own_size"
SIZES = (MODEL_SIZE, OWN_SIZE)
_AHEAD = 32  # images


@dataclasses.dataclass(frozen=True)
class Counts:
    """Integer counts over some images.

    Attributes:
      confusion: int64 [classes, classes], rows the truth.
      bands: int64 [radii, classes, classes], the same within BAND_RADII_PX of a true border.
      boundary: int64 [classes, 2], of boundaries.count_boundaries.
    """

    confusion: np.ndarray
    bands: np.ndarray | None = None
    boundary: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class ImageFigures:
    """What is kept of one image.

    Attributes:
      place: in the split, from 0.
      name: of the image.
      groups: what kinds of images it belongs to: {'breed': 'Abyssinian'}.
      mean_iou: by (name of the reading, size); NaN where no pixel counts.
      iou: by the same, float64 [classes]; NaN where a class is absent.
    """

    place: int
    name: str
    groups: dict[str, str]
    mean_iou: dict[tuple[str, str], float]
    iou: dict[tuple[str, str], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Reading:
    """A label map by which truth and predictions are read.

    Attributes:
      label_map: its classes.
      mixing: float32 [classes of the model, its classes], 1 where one is part of the other.
    """

    label_map: LabelMap
    mixing: np.ndarray


@dataclasses.dataclass
class Tally:
    """Sums over a split.

    Attributes:
      counts: by (name of the reading, size).
      groups: of the run's own reading at the model's size: by kind, by group.
      group_images: how many images each group has.
      images: in the split's order.
    """

    counts: dict[tuple[str, str], Counts] = dataclasses.field(default_factory=dict)
    groups: dict[str, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    group_images: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    images: list[ImageFigures] = dataclasses.field(default_factory=list)


def make_reading(model_map: LabelMap, other: LabelMap) -> Reading | None:
    """How a model's classes are read by another label map; None if they cannot be."""
    targets = model_map.classes_in(other)
    if targets is None:
        return None
    mixing = np.zeros((model_map.num_classes, other.num_classes), np.float32)
    for class_id, target in enumerate(targets):
        if target is not None:
            mixing[class_id, target] = 1
    return Reading(other, mixing)


def count_split(
    originals: Iterable[Original],
    see: forward.See,
    probabilities: Callable[..., tf.Tensor],
    readings: Mapping[str, Reading],
    groups_of: Callable[[Original], dict[str, str]],
    *,
    image_size: int,
    keep_aspect: bool,
) -> Tally:
    """Counts every pixel of a split once, at the model's size and at the images' own.

    Args:
      originals: the split.
      see: of forward.make_see.
      probabilities: of forward.make_probabilities.
      readings: by name; the first is the run's own.
      groups_of: the kinds of images that an image belongs to.
      image_size: of the model, in pixels.
      keep_aspect: as the model was trained.
    """
    own = next(iter(readings))
    count_image = _make_count_image(readings, own)
    tally = Tally()

    def count(original: Original, seen: list[tf.Tensor]) -> dict[tuple[str, str], Counts]:
        height, width = map(tf.constant, np.int32(original.mask.shape))
        rows, columns = resizing.fitted(height, width, image_size, keep_aspect)
        sides = {MODEL_SIZE: (rows, columns), OWN_SIZE: (height, width)}
        return {
            (name, size): counts
            for size, (h, w) in sides.items()
            for name, counts in count_image(probabilities(seen, h, w), original.mask).items()
        }

    # Images are counted while the model looks at the next ones.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting: collections.deque[tuple[Original, Future]] = collections.deque()

        def note_oldest() -> None:
            original, counting = waiting.popleft()
            found = counting.result()
            for key, counts in found.items():
                tally.counts[key] = _add(tally.counts.get(key), counts)
            _note_image(tally, original, groups_of(original), found, own)

        for original, seen in _with_views(originals, see):
            waiting.append((original, pool.submit(count, original, seen)))
            if len(waiting) > _AHEAD:
                note_oldest()
        while waiting:
            note_oldest()
    return tally


def _with_views(
    originals: Iterable[Original], see: forward.See
) -> Iterator[tuple[Original, list[tf.Tensor]]]:
    """Each example with its views; as many examples are held as are computed together."""
    waiting: list[Original] = []

    def images() -> Iterator[np.ndarray]:
        for original in originals:
            waiting.append(original)
            yield original.image

    for seen in see(images()):
        yield waiting.pop(0), seen


def _make_count_image(
    readings: Mapping[str, Reading], own: str
) -> Callable[[tf.Tensor, np.ndarray], dict[str, Counts]]:
    """A function: probabilities at some size, the raw mask -> counts by reading."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, len(readings[own].mixing)], tf.float32),
            tf.TensorSpec([None, None], tf.uint8),
        ]
    )
    def count(found: tf.Tensor, raw: tf.Tensor) -> dict[str, dict[str, tf.Tensor]]:
        height, width = tf.shape(found)[0], tf.shape(found)[1]
        rows = resizing.nearest(0, tf.shape(raw)[0], height)
        columns = resizing.nearest(0, tf.shape(raw)[1], width)
        resized = resizing.sample(raw, rows, columns)
        counts = {}
        for name, reading in readings.items():
            truth = to_class_ids(resized, reading.label_map.class_ids())
            shares = found if name == own else tf.linalg.matmul(found, reading.mixing)
            predicted = tf.cast(tf.argmax(shares, axis=-1), tf.uint8)
            classes = reading.label_map.num_classes
            counts[name] = _count_one(truth, predicted, classes, is_detailed=name == own)
        return counts

    def count_image(found: tf.Tensor, raw: np.ndarray) -> dict[str, Counts]:
        return {
            name: Counts(**{key: value.numpy() for key, value in counts.items()})
            for name, counts in count(found, tf.constant(raw)).items()
        }

    return count_image


def _count_one(
    truth: tf.Tensor, predicted: tf.Tensor, num_classes: int, is_detailed: bool
) -> dict[str, tf.Tensor]:
    """The fields of Counts of one image; borders are looked at only in detail."""
    ignored = tf.fill(tf.shape(truth), tf.constant(IGNORE, tf.uint8))
    # As one stack: the whole image, then its bands.
    bands = boundaries.border_bands(truth, BAND_RADII_PX) if is_detailed else []
    truths = tf.stack([truth, *(tf.where(band, truth, ignored) for band in bands)])
    pairs = pixel_counts.count_pairs(truths, tf.stack([predicted] * (1 + len(bands))), num_classes)
    if not is_detailed:
        return {"confusion": pairs[0]}
    boundary = boundaries.count_boundaries(truth, predicted, num_classes)
    return {"confusion": pairs[0], "bands": pairs[1:], "boundary": boundary}


def _add(before: Counts | None, counts: Counts) -> Counts:
    if before is None:
        return counts
    fields = [field.name for field in dataclasses.fields(Counts)]
    pairs = {name: (getattr(before, name), getattr(counts, name)) for name in fields}
    return Counts(**{name: None if a is None else a + b for name, (a, b) in pairs.items()})


def _note_image(
    tally: Tally,
    original: Original,
    groups: dict[str, str],
    counts: dict[tuple[str, str], Counts],
    own: str,
) -> None:
    scores = {key: pixel_counts.score(of.confusion) for key, of in counts.items()}
    tally.images.append(
        ImageFigures(
            original.place,
            original.name,
            groups,
            {key: of.mean_iou for key, of in scores.items()},
            {key: of.iou for key, of in scores.items()},
        )
    )
    for kind, group in groups.items():
        sums = tally.groups.setdefault(kind, {})
        sums[group] = sums.get(group, 0) + counts[own, MODEL_SIZE].confusion
        images = tally.group_images.setdefault(kind, {})
        images[group] = images.get(group, 0) + 1
