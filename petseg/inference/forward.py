"""The one forward path that validation, evaluate, predict and export share."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from petseg.input_pipeline import resizing
from petseg.metrics import pixel_counts
from petseg.models import features
from petseg.models.vgg16_skip import STRIDE_PX, SkipModel

T = TypeVar("T")
EvalStep = Callable[[dict[str, tf.Tensor]], tuple[tf.Tensor, ...]]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What one pass over a split counted.

    Attributes:
      confusion: int64 [classes, classes], rows the truth.
      images: how many images were counted.
      image_mean_ious: float32 [images], in the split's order; NaN where no pixel counts.
    """

    confusion: np.ndarray
    images: int
    image_mean_ious: np.ndarray


def make_eval_step(
    model: SkipModel, num_classes: int, strategy: tf.distribute.Strategy
) -> EvalStep:
    """Compiles the counting of one (distributed) batch of make_for_eval, images or features.

    Returns:
      A function: batch -> int64 [classes, classes] counts with the truth in rows,
      int64 [] images, float32 [global batch] mean IoU of each image; of all replicas.
    """

    def count(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        predicted = tf.argmax(model.logits(features.known_pools(batch)), axis=-1)
        counts = pixel_counts.count_pairs(batch["mask"], predicted, num_classes)
        # Each replica fills its own places, so that a sum puts them together.
        context = tf.distribute.get_replica_context()
        own = tf.one_hot(context.replica_id_in_sync_group, strategy.num_replicas_in_sync)
        ious = pixel_counts.image_mean_iou(counts)[None]
        placed = tf.where(own[:, None] > 0, ious, tf.zeros_like(ious))
        return (
            tf.reduce_sum(counts, 0),
            tf.reduce_sum(batch["weight"]),
            tf.reshape(placed, [-1]),
        )

    @tf.function
    def eval_step(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        per_replica = strategy.run(count, args=(batch,))
        return tuple(
            strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None) for value in per_replica
        )

    return eval_step


def evaluate(
    eval_step: EvalStep, batches: Iterable[dict[str, tf.Tensor]], num_batches: int
) -> Evaluation:
    """One pass over (distributed) batches of make_for_eval; counts are exact.

    A terminal shows a bar while it lasts.
    """
    confusion, images, ious = np.zeros((), np.int64), 0, []
    for batch in tqdm(batches, "evaluate", num_batches, leave=False, unit="batch", disable=None):
        counts, count, image_ious = eval_step(batch)
        confusion = confusion + counts.numpy()
        images += int(count.numpy())
        ious.append(image_ious.numpy())
    # What fills the last batch up comes last.
    return Evaluation(confusion, images, np.concatenate(ious)[:images])


def predict(model: SkipModel, images: np.ndarray) -> np.ndarray:
    """Class ids of images of the model's size.

    Args:
      model: trained.
      images: uint8 [images, size, size, 3], RGB.

    Returns:
      uint8 [images, size, size].
    """
    return tf.cast(tf.argmax(model(tf.constant(images)), axis=-1), tf.uint8).numpy()


@dataclasses.dataclass(frozen=True)
class Views:
    """How an image is looked at; what several views say is averaged.

    Attributes:
      flip: also at its mirror image.
      scales: at these multiples of the model's size, rounded to multiples of 32.
      sliding_windows: look at an image that is larger than the model's size through windows of
        that size, half over each other, at the image's own resolution (times the scales).
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    sliding_windows: bool = False

    @property
    def count(self) -> int:
        """The number of views."""
        return len(self.scales) * (2 if self.flip else 1)


See = Callable[[Iterable[np.ndarray]], Iterator[list[tf.Tensor]]]


def make_see(
    at_size: Callable[[int], SkipModel],
    image_size: int,
    keep_aspect: bool,
    batch_size: int,
    views: Views,
) -> See:
    """A function that looks at images of any size; memory does not grow with their number.

    Args:
      at_size: the model for a size of image, in pixels.
      image_size: that it was trained with.
      keep_aspect: as it was trained; see resizing.resize_image.
      batch_size: images, or windows, that are computed together.
      views: how each image is looked at.

    Returns:
      A function: uint8 images [height, width, 3], RGB -> for each of them, in order, one
      float32 [rows, columns, classes] a view, logits that cover the image.
    """
    sizes = {_to_stride(image_size * scale) for scale in views.scales}
    sizes = {image_size} if views.sliding_windows else sizes
    forward = {size: _make_forward(at_size(size), size) for size in sorted(sizes)}
    fit = {size: _make_fit(size, keep_aspect) for size in forward}

    def whole(images: Sequence[np.ndarray], size: int) -> list[tf.Tensor]:
        tiles, rows, columns = zip(*map(fit[size], images), strict=True)
        return list(map(_cut, forward[size](tf.stack(tiles)), rows, columns))

    def through_windows(image: np.ndarray, scale: float) -> tf.Tensor:
        if scale != 1:
            sides = [max(round(side * scale), 1) for side in image.shape[:2]]
            resized = tf.image.resize(image, np.int32(sides), antialias=True)
            image = tf.saturate_cast(tf.round(resized), tf.uint8).numpy()
        if max(image.shape[:2]) <= image_size:
            return whole([image], image_size)[0]
        return _slide(forward[image_size], image, image_size, batch_size)

    def look(images: Sequence[np.ndarray], scale: float) -> list[tf.Tensor]:
        """One view of each image."""
        if views.sliding_windows:
            return [through_windows(image, scale) for image in images]
        return whole(images, _to_stride(image_size * scale))

    def see(images: Iterable[np.ndarray]) -> Iterator[list[tf.Tensor]]:
        for group in _in_groups(images, batch_size):
            by_view = [look(group, scale) for scale in views.scales]
            if views.flip:
                # Before they are fitted: what fills an image up stays on its right.
                mirrored = [image[:, ::-1] for image in group]
                for scale in views.scales:
                    by_view.append([seen[:, ::-1] for seen in look(mirrored, scale)])
            yield from map(list, zip(*by_view, strict=True))

    return see


def make_probabilities(views: Views, num_classes: int) -> Callable[..., tf.Tensor]:
    """A function that says what the views of one image, on average, say of its classes.

    Args:
      views: how images are looked at.
      num_classes: number of classes.

    Returns:
      A function: the image's views, of make_see; height and width of the result, int32 []
      arrays or tensors (of Python numbers TensorFlow keeps each for ever) -> float32 [height,
      width, classes], which adds up to 1 over the classes.
    """
    side = tf.TensorSpec([], tf.int32)
    seen = [tf.TensorSpec([None, None, num_classes], tf.float32)] * views.count

    @tf.function(input_signature=[seen, side, side])
    def probabilities(seen: list[tf.Tensor], height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        resized = [tf.nn.softmax(tf.image.resize(logits, [height, width])) for logits in seen]
        return tf.add_n(resized) / len(resized)

    return probabilities


def _in_groups(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    items = iter(items)
    while group := tuple(itertools.islice(items, size)):
        yield group


def _to_stride(size: float) -> int:
    return max(round(size / STRIDE_PX), 1) * STRIDE_PX


def _make_fit(size: int, keep_aspect: bool) -> Callable[[np.ndarray], tuple[tf.Tensor, ...]]:
    """An image -> the same at the model's size; the rows and the columns that it fills."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])
    def fit(image: tf.Tensor) -> tuple[tf.Tensor, ...]:
        sides = tf.shape(image)
        filled = resizing.fitted(sides[0], sides[1], size, keep_aspect)
        return resizing.resize_image(image, size, keep_aspect), *filled

    return fit


@tf.function(reduce_retracing=True)
def _cut(logits: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    return logits[:rows, :columns]


def _make_forward(model: SkipModel, size: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """uint8 [tiles, size, size, 3] -> logits."""
    return tf.function(
        lambda tiles: model(tiles),  # noqa: PLW0108  (tests hand in models of other kinds)
        input_signature=[tf.TensorSpec([None, size, size, 3], tf.uint8)],
    )


def _slide(
    forward: Callable[[tf.Tensor], tf.Tensor], image: np.ndarray, size: int, batch_size: int
) -> tf.Tensor:
    """Logarithms of what overlapping windows say on average, nearer to a window's centre more."""
    height, width = image.shape[:2]
    lacking = [(0, max(size - side, 0)) for side in (height, width)]
    padded = np.pad(image, [*lacking, (0, 0)])
    corners = list(itertools.product(*(window_starts(side, size) for side in padded.shape[:2])))
    ramp = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)).astype(np.float32)
    weight = np.outer(ramp, ramp)[..., None]
    total, weights = None, np.zeros((*padded.shape[:2], 1), np.float32)
    for group in _in_groups(corners, batch_size):
        tiles = np.stack([padded[y : y + size, x : x + size] for y, x in group])
        found = tf.nn.softmax(forward(tf.constant(tiles))).numpy()
        if total is None:
            total = np.zeros((*padded.shape[:2], found.shape[-1]), np.float32)
        for (y, x), of_window in zip(group, found, strict=True):
            total[y : y + size, x : x + size] += weight * of_window
            weights[y : y + size, x : x + size] += weight
    mean = (total / weights)[:height, :width]
    return tf.math.log(tf.maximum(mean, np.finfo(np.float32).tiny))


def window_starts(side: int, size: int) -> list[int]:
    """Where windows begin along a side: evenly, at most half a window apart."""
    count = -(-(side - size) // (size // 2)) + 1
    return np.linspace(0, side - size, count).round().astype(int).tolist()
