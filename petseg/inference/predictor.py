"""A trained model that predicts images of any size: shared by evaluate and predict."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from petseg.data.image_range import ImageRange
from petseg.errors import UserError
from petseg.image_size import ImageSize, sides_of
from petseg.inference import small_regions
from petseg.inference.postprocessing import PostprocessingOptions
from petseg.inference.sliding_windows import predict_windows
from petseg.inference.smoothing import reach_px, smooth
from petseg.inference.tta import TtaOptions
from petseg.input_pipeline import resizing
from petseg.models.segmentation_model import STRIDE_PX, SegmentationModel
from petseg.run_dir.trained_model import TrainedModel

_STRIP_VALUES = 1 << 22  # probabilities computed at a time: 16 MiB


@dataclasses.dataclass(frozen=True)
class PredictorOptions:
    """How images are brought to the model's size and predicted.

    Attributes:
      image_size: of the images that the model was trained on, in pixels.
      num_classes: number of classes.
      keep_aspect: as the model was trained; see resizing.resize_image.
      batch_size: number of images, or windows, that are computed together.
      tta: test-time augmentation.
      image_range: what becomes 0 and 255 when pictures of more than 8 bits are read.
      postprocessing: what is done to predictions.
    """

    image_size: ImageSize
    num_classes: int
    keep_aspect: bool = False
    batch_size: int = 8
    tta: TtaOptions = dataclasses.field(default_factory=TtaOptions)
    image_range: ImageRange | None = None
    postprocessing: PostprocessingOptions = dataclasses.field(default_factory=PostprocessingOptions)


class Prediction:
    """What is predicted of an image at its own size, computed when it is asked for.

    Attributes:
      shape: height, width, number of classes.
    """

    def __init__(
        self,
        average: Callable[..., tf.Tensor],
        view_logits: list[tf.Tensor],
        shape: tuple[int, int, int],
        postprocessing: PostprocessingOptions,
    ):
        """Keeps what Predictor knows of an image; see Predictor.predict_each."""
        self._average, self._view_logits, self.shape = average, view_logits, shape
        self._postprocessing = postprocessing

    def strips(self) -> Iterator[tuple[int, np.ndarray]]:
        """Probabilities, smoothed if they are to be, some rows at a time, which bounds memory.

        Yields:
          The number of the first row; float32 [rows, width, classes].
        """
        height, width, num_classes = self.shape
        sigma_px = self._postprocessing.smooth_sigma_px
        reach = reach_px(sigma_px)
        # No fewer than the rows around them that smoothing needs.
        rows = max(_STRIP_VALUES // (width * num_classes), 2 * reach, 1)
        for first in range(0, height, rows):
            top, bottom = max(first - reach, 0), min(first + rows + reach, height)
            # TensorFlow caches every Python number that it is given, but no array.
            numbers = np.array([height, width, top, bottom - top], np.int32)
            smoothed = smooth(self._average(self._view_logits, *numbers).numpy(), sigma_px)
            yield first, smoothed[first - top : first - top + rows]

    @functools.cached_property
    def class_ids(self) -> np.ndarray:
        """The most probable class of each pixel, small regions removed: uint8 [height, width]."""
        class_ids = np.empty(self.shape[:2], np.uint8)
        for first, rows in self.strips():
            class_ids[first : first + len(rows)] = rows.argmax(-1)
        return small_regions.remove_small(class_ids, self._postprocessing.min_area_px)

    def probabilities(self) -> np.ndarray:
        """float32 [height, width, classes], which sum to 1 over the classes."""
        strips = [rows for _, rows in self.strips()]
        return strips[0] if len(strips) == 1 else np.concatenate(strips)


class Predictor:
    """Predicts images of any size; its memory does not grow with their number.

    Images are uint8 [height, width, 3], RGB.
    """

    def __init__(
        self, model_at_size: Callable[[ImageSize], SegmentationModel], options: PredictorOptions
    ):
        """Builds and compiles what the options need.

        Args:
          model_at_size: image size in pixels -> the model for images of that size.
          options: see PredictorOptions.
        """
        self.options = options
        self._sides, tta = sides_of(options.image_size), options.tta
        sizes = {self._sides}
        if not tta.sliding_windows:
            sizes = {self._scaled_sides(scale) for scale in tta.scales}
        # By height and width.
        self._forward = {size: _make_forward(model_at_size(size), size) for size in sorted(sizes)}
        self._fit = {size: _make_fit(size, options.keep_aspect) for size in self._forward}
        self._average = _make_average(tta.num_views, options.num_classes)

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Predicts the class id of each pixel: uint8 [height, width]."""
        (prediction,) = self.predict_each([image])
        return prediction.class_ids

    def predict_probabilities(self, image: np.ndarray) -> np.ndarray:
        """Predicts float32 [height, width, classes], which sum to 1 over the classes."""
        (prediction,) = self.predict_each([image])
        return prediction.probabilities()

    def predict_all(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Predicts the probabilities of each image, as predict_probabilities, in batches."""
        for prediction in self.predict_each(images):
            yield prediction.probabilities()

    def predict_each(self, images: Iterable[np.ndarray]) -> Iterator[Prediction]:
        """Predicts each image, in order, in batches.

        At most one batch of images is held at a time.
        """
        sides = []

        def noting_sides() -> Iterator[np.ndarray]:
            for image in images:
                sides.append(image.shape[:2])
                yield image

        for view_logits in self.predict_views(noting_sides()):
            shape = (*sides.pop(0), self.options.num_classes)
            yield Prediction(self._average, view_logits, shape, self.options.postprocessing)

    def predict_views(self, images: Iterable[np.ndarray]) -> Iterator[list[tf.Tensor]]:
        """Predicts the views of each image, in order, in batches.

        Yields:
          For each image one float32 [rows, columns, classes] per view: logits that cover the
          image.
        """
        tta = self.options.tta
        for batch in _batches(images, self.options.batch_size):
            by_view = [self._predict_scaled(batch, scale) for scale in tta.scales]
            if tta.flip:
                # Mirrored before they are fitted, so that padding stays on the right.
                mirrored = [image[:, ::-1] for image in batch]
                for scale in tta.scales:
                    logits = self._predict_scaled(mirrored, scale)
                    by_view.append([one[:, ::-1] for one in logits])
            yield from map(list, zip(*by_view, strict=True))

    def average(
        self, view_logits: list[tf.Tensor], height: int | tf.Tensor, width: int | tf.Tensor
    ) -> tf.Tensor:
        """Averages the probabilities of an image's views at some size, without post-processing.

        Args:
          view_logits: the views of one image, from predict_views.
          height: of the result, in pixels.
          width: of the result, in pixels.

        Returns:
          float32 [height, width, classes], which sum to 1 over the classes.
        """
        rows = np.asarray(height, np.int32)
        return self._average(view_logits, rows, np.asarray(width, np.int32), np.int32(0), rows)

    def _scaled_sides(self, scale: float) -> tuple[int, int]:
        """The nearest multiples of the model's stride, in pixels."""
        height, width = (
            max(round(side * scale / STRIDE_PX), 1) * STRIDE_PX for side in self._sides
        )
        return height, width

    def _predict_scaled(self, images: Sequence[np.ndarray], scale: float) -> list[tf.Tensor]:
        """Logits of one view of each image."""
        if self.options.tta.sliding_windows:
            return [self._predict_windows(image, scale) for image in images]
        return self._predict_whole(images, self._scaled_sides(scale))

    def _predict_whole(
        self, images: Sequence[np.ndarray], sides: tuple[int, int]
    ) -> list[tf.Tensor]:
        fitted, rows, columns = zip(*map(self._fit[sides], images), strict=True)
        return list(map(_crop, self._forward[sides](tf.stack(fitted)), rows, columns))

    def _predict_windows(self, image: np.ndarray, scale: float) -> tf.Tensor:
        if scale != 1:
            sides = [max(round(side * scale), 1) for side in image.shape[:2]]
            resized = tf.image.resize(image, np.int32(sides), antialias=True)
            image = tf.saturate_cast(tf.round(resized), tf.uint8).numpy()
        height, width = self._sides
        if image.shape[0] <= height and image.shape[1] <= width:
            return self._predict_whole([image], self._sides)[0]
        forward = self._forward[self._sides]
        return predict_windows(forward, image, self._sides, self.options.batch_size)


def make_predictor(
    trained: TrainedModel,
    tta: TtaOptions,
    batch_size: int,
    postprocessing: PostprocessingOptions | None = None,
) -> Predictor:
    """Makes a predictor of a run's model; see PredictorOptions for the arguments.

    Raises:
      UserError: keep_absent is asked of a model without a presence head.
    """
    data, postprocessing = trained.config.data, postprocessing or PostprocessingOptions()
    if postprocessing.keep_absent:
        if not trained.model.presence:
            raise UserError(
                "keep_absent is for models with a presence head (config.model.presence=True); this "
                "one has none and leaves no class out: the result is the same without it"
            )
        trained = trained.keeping_absent()
    options = PredictorOptions(
        image_size=data.image_size,
        num_classes=trained.label_map.num_classes,
        keep_aspect=data.keep_aspect,
        batch_size=batch_size,
        tta=tta,
        image_range=trained.image_range,
        postprocessing=postprocessing,
    )
    return Predictor(trained.at_size, options)


def _batches(images: Iterable[np.ndarray], size: int) -> Iterator[tuple[np.ndarray, ...]]:
    images = iter(images)
    while batch := tuple(itertools.islice(images, size)):
        yield batch


def _make_average(num_views: int, num_classes: int) -> Callable[..., tf.Tensor]:
    """A compiled function: logits of views -> some rows of their average probabilities.

    Its other arguments are the height and width of the result, its first row and the number of
    rows.
    """
    number = tf.TensorSpec([], tf.int32)
    views = [tf.TensorSpec([None, None, num_classes], tf.float32)] * num_views

    @tf.function(autograph=False, input_signature=[views, number, number, number, number])
    def average(views: list[tf.Tensor], *place: tf.Tensor) -> tf.Tensor:
        resized = [tf.nn.softmax(resizing.resized_rows(logits, *place)) for logits in views]
        return tf.add_n(resized) / len(resized)

    return average


def _make_fit(
    size: tuple[int, int], keep_aspect: bool
) -> Callable[[np.ndarray], tuple[tf.Tensor, ...]]:
    """A compiled function: image -> the image at the model's size; its rows and columns there."""

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])
    def fit(image: tf.Tensor) -> tuple[tf.Tensor, ...]:
        sides = tf.shape(image)
        rows, columns = resizing.fitted(sides[0], sides[1], size, keep_aspect)
        return resizing.resize_image(image, size, keep_aspect), rows, columns

    return fit


@tf.function(autograph=False, reduce_retracing=True)
def _crop(logits: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    return logits[:rows, :columns]


def _make_forward(
    model: SegmentationModel, sides: tuple[int, int]
) -> Callable[[tf.Tensor], tf.Tensor]:
    """A compiled function: uint8 [images, height, width, 3] -> logits."""
    return tf.function(
        lambda images: model(images),  # noqa: PLW0108  (tests give models of other kinds)
        autograph=False,
        input_signature=[tf.TensorSpec([None, *sides, 3], tf.uint8)],
    )
