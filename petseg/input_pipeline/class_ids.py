"""Raw mask values -> class ids, without a table look-up for each pixel."""

import numpy as np
import tensorflow as tf

from petseg.data.label_map import UNKNOWN

_MOST_CORRECTIONS = 4  # about as many take as long as gathering


def to_class_ids(mask: tf.Tensor, class_ids: np.ndarray) -> tf.Tensor:
    """Gives every pixel the class id of its raw value: class_ids[mask].

    TensorFlow's gather takes 0.4 ms for 224 x 224 pixels, a fifth of what decoding an
    example takes. Label maps mostly number neighbouring values in order: subtracting a
    constant is then right for all but a few values, which are corrected.

    Args:
      mask: uint8, any shape; values that the label map covers (LabelMap.check_covers): the
        result for others is undefined.
      class_ids: uint8 [256], from LabelMap.class_ids.

    Returns:
      uint8, the mask's shape: class ids or IGNORE.
    """
    known = np.flatnonzero(class_ids != UNKNOWN)
    added = class_ids - np.arange(256).astype(np.uint8)  # modulo 256
    common = np.bincount(added[known]).argmax().astype(np.uint8)
    wrong = known[added[known] != common]
    if wrong.size > _MOST_CORRECTIONS:
        return tf.gather(tf.constant(class_ids), tf.cast(mask, tf.int32))
    ids = mask + common if common else mask
    for value in wrong.tolist():
        correction = np.uint8((int(added[value]) - int(common)) % 256)
        ids += tf.cast(mask == np.uint8(value), tf.uint8) * correction
    return ids
