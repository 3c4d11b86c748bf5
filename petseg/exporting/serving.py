"""The served model: encoded pictures in, class ids out."""

import tensorflow as tf

from petseg.data.label_map import IGNORE, LabelMap
from petseg.exporting import encoded_pictures
from petseg.exporting.choices import DEFAULT_MAX_PIXELS
from petseg.image_size import ImageSize, sides_of
from petseg.input_pipeline import resizing
from petseg.models.segmentation_model import SegmentationModel

_ENCODED = tf.TensorSpec([None], tf.string, name="encoded")
_IMAGES = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")


class ServingModel(tf.Module):
    """The content of a SavedModel. Class id 255 marks a pixel outside the picture."""

    def __init__(
        self,
        model: SegmentationModel,
        label_map: LabelMap,
        image_size: ImageSize,
        keep_aspect: bool,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ):
        """`max_pixels`: pictures whose header claims more pixels are not decoded."""
        super().__init__()
        # Tracked, so that the variables are saved.
        self.model = model.keras_model()
        self._label_map, self._size, self._keep_aspect = label_map, image_size, keep_aspect
        self._height, self._width = sides_of(image_size)
        self._max_pixels = max_pixels

    def signatures(self) -> dict[str, tf.types.experimental.GenericFunction]:
        """Functions by the names under which they are served."""
        return {
            "serving_default": self.serve_encoded,
            "images": self.serve_images,
            "probabilities": self.serve_probabilities,
            "about": self.about,
        }

    @tf.function(autograph=False, input_signature=[_ENCODED])
    def serve_encoded(self, encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        """JPEG, PNG or BMP bytes -> class ids; a damaged picture is skipped alone.

        Args:
          encoded: string [batch], at least one; see encoded_pictures.decode.

        Returns:
          class_ids: uint8 [batch, height, width], turned as the EXIF tag of a JPEG says; 255
            everywhere for a picture that is not decoded, and in the padding of a picture that
            keeps its aspect.
          valid: bool [batch], whether the picture was decoded.
        """
        count = tf.size(encoded, tf.int64)
        shape = [self._height, self._width, 3]

        @tf.autograph.experimental.do_not_convert
        def decode(index: tf.Tensor, content: tf.Tensor) -> tuple[tf.Tensor, ...]:
            image = encoded_pictures.decode(content, self._max_pixels)
            sides = resizing.fitted(
                tf.shape(image)[0], tf.shape(image)[1], self._size, self._keep_aspect
            )
            return index, resizing.resize_image(image, self._size, self._keep_aspect), *sides

        # Only a tf.data pipeline can continue after an error. Its last element keeps it from
        # being empty.
        decoded = (
            tf.data.Dataset.from_tensor_slices(encoded)
            .enumerate()
            .map(decode, num_parallel_calls=tf.data.AUTOTUNE)
            .ignore_errors()
            .concatenate(tf.data.Dataset.from_tensors((count, tf.zeros(shape, tf.uint8), 0, 0)))
            .batch(count + 1)
            .get_single_element()
        )
        indices, images, rows, columns = (part[:-1] for part in decoded)
        indices = indices[:, None]
        spread = tf.scatter_nd(indices, tf.cast(images, tf.int32), tf.stack([count, *shape]))
        class_ids = self.serve_images(tf.cast(spread, tf.uint8))["class_ids"]
        # A picture that could not be decoded has no rows.
        rows, columns = (tf.scatter_nd(indices, side, count[None]) for side in (rows, columns))
        down, across = tf.range(self._height), tf.range(self._width)
        is_picture = (down[:, None] < rows[:, None, None]) & (across < columns[:, None, None])
        outside = tf.constant(IGNORE, tf.uint8)
        return {"class_ids": tf.where(is_picture, class_ids, outside), "valid": rows > 0}

    @tf.function(autograph=False, input_signature=[_IMAGES])
    def serve_images(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """RGB uint8 [batch, height, width, 3] -> class_ids uint8 [batch, height, width]."""
        return {"class_ids": tf.cast(tf.argmax(self._logits(images), axis=-1), tf.uint8)}

    @tf.function(autograph=False, input_signature=[_IMAGES])
    def serve_probabilities(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """RGB uint8 [batch, height, width, 3] -> float32 [batch, height, width, classes]."""
        return {"probabilities": tf.nn.softmax(self._logits(images))}

    @tf.function(autograph=False, input_signature=[])
    def about(self) -> dict[str, tf.Tensor]:
        """The classes, and the sizes of pictures.

        Returns:
          class_names: string [classes].
          label_map: string [].
          image_size: int32 [], or [2], height and width, if they differ.
          max_pixels: int64 [].
        """
        return {
            "class_names": tf.constant(self._label_map.names),
            "label_map": tf.constant(self._label_map.spec()),
            "image_size": tf.constant(self._size),
            "max_pixels": tf.constant(self._max_pixels, tf.int64),
        }

    def _logits(self, images: tf.Tensor) -> tf.Tensor:
        images = tf.ensure_shape(images, [None, self._height, self._width, 3])
        return self.model(images, training=False)
