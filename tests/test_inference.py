from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from petseg import inference

SIZE = 32


class BrightPixels:
    """Stands for a model whose class 1 is what is bright; the filling is dark."""

    backbone = SimpleNamespace(inputs=[SimpleNamespace(shape=(None, SIZE, SIZE, 3))])

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        bright = tf.cast(images[..., 0], tf.float32) - 127.5
        return tf.stack([-bright, bright], -1)


@pytest.mark.parametrize("keep_aspect", [False, True])
@pytest.mark.parametrize("sides", [(20, 80), (80, 20), (32, 32), (7, 300), (1, 1)])
def test_a_picture_of_any_shape_is_segmented_at_its_own_size(sides, keep_aspect):
    height, width = sides
    image = np.full((height, width, 3), 255, np.uint8)
    image[:, : width // 2] = 0
    class_ids = inference.make_segment(BrightPixels(), keep_aspect)(image)
    assert class_ids.shape == sides and class_ids.dtype == np.uint8
    # Right but for the pixels at the edge between dark and bright.
    blurred = -(-max(sides) // SIZE) + 1
    assert (class_ids[:, : max(width // 2 - blurred, 0)] == 0).all()
    assert (class_ids[:, width // 2 + blurred :] == 1).all()
