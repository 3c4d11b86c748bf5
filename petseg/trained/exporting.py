"""A trained model as a SavedModel that needs nothing but TensorFlow."""

import json
import uuid

import numpy as np
import tensorflow as tf
from etils import epath

from petseg import inference, manifest
from petseg.errors import FaultFound, UserError
from petseg.input_pipeline import batches, resizing
from petseg.modeling.vgg16_skip import SkipModel
from petseg.training import workdir

_CARD = "model_card.json"
_CHECKED_IMAGES = 8
# Compiled apart, the two may round a logit differently: not a mask, but a rare pixel.
_AGREEMENT = 0.9999


class ServingModel(tf.Module):
    """A model with its preprocessing: pictures in, class ids out."""

    def __init__(self, model: SkipModel, image_size: int, keep_aspect: bool):
        super().__init__()
        # Tracked, so that the variables are saved.
        self.model = model.joined()
        self._size, self._keep_aspect = image_size, keep_aspect

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="encoded")])
    def serve_encoded(self, encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        """JPEG, PNG, GIF or BMP bytes, string [batch] -> class_ids uint8 [batch, size, size]."""

        def decode(content: tf.Tensor) -> tf.Tensor:
            image = tf.io.decode_image(content, channels=3, expand_animations=False)
            return resizing.resize_image(image, self._size, self._keep_aspect)

        spec = tf.TensorSpec([self._size, self._size, 3], tf.uint8)
        return self.serve_images(tf.map_fn(decode, encoded, fn_output_signature=spec))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")])
    def serve_images(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """RGB uint8 [batch, size, size, 3] -> class_ids uint8 [batch, size, size]."""
        images = tf.ensure_shape(images, [None, self._size, self._size, 3])
        logits = self.model(images, training=False)
        return {"class_ids": tf.cast(tf.argmax(logits, axis=-1), tf.uint8)}


def export_saved_model(
    run_dir: str, output_dir: str, data_dir: str | None, checkpoint: str = "newest"
) -> dict:
    """Writes a SavedModel and its model card, after comparing it with the trained model.

    Signatures: `serving_default` takes encoded pictures, `images` takes uint8 images
    of the model's size; both give class ids.

    Args:
      run_dir: the run.
      output_dir: a new or empty folder.
      data_dir: data set whose validation images are compared, or None for the one that
        the run was trained on.
      checkpoint: 'newest', 'best' or a step.

    Returns:
      The model card: label_map, class_names, image_size, keep_aspect, checkpoint_step,
      checked_images, agreement (share of their pixels with the same class).

    Raises:
      UserError: the run cannot be loaded, or the folder is not empty.
      FaultFound: the exported model's masks differ from the trained model's.
    """
    output = epath.Path(output_dir)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output_dir: {output} is not an empty folder")
    trained = workdir.load_trained(run_dir, checkpoint)
    config = trained.config.data
    data_dir = data_dir or config.dir
    split = manifest.read_manifest(data_dir).split("validation", data_dir)
    dataset = batches.make_for_eval(
        manifest.shard_paths(data_dir, split),
        class_ids=trained.label_map.class_ids(),
        image_size=config.image_size,
        batch_size=_CHECKED_IMAGES,
        keep_aspect=config.keep_aspect,
    )
    images, _, expected = inference.predict_sample(
        trained.model, dataset, min(_CHECKED_IMAGES, split.records)
    )
    temporary = output.with_name(f"{output.name}.{uuid.uuid4().hex[:8]}.tmp")
    serving = ServingModel(trained.model, config.image_size, config.keep_aspect)
    tf.saved_model.save(
        serving,
        str(temporary),
        signatures={"serving_default": serving.serve_encoded, "images": serving.serve_images},
    )
    exported = tf.saved_model.load(str(temporary)).signatures["images"]
    given = exported(images=tf.constant(images))["class_ids"].numpy()
    agreement = float(np.mean(given == expected))
    if agreement < _AGREEMENT:
        raise FaultFound(
            f"the exported model agrees with the trained one on {agreement:.2%} of the pixels "
            f"of {len(images)} validation images, less than {_AGREEMENT:.2%}; "
            f"it stays in {temporary}"
        )
    card = {
        "label_map": trained.label_map.spec(),
        "class_names": list(trained.label_map.names),
        "image_size": config.image_size,
        "keep_aspect": config.keep_aspect,
        "checkpoint_step": trained.step,
        "checked_images": len(images),
        "agreement": agreement,
    }
    (temporary / _CARD).write_text(json.dumps(card, indent=1) + "\n")
    if output.exists():
        output.rmdir()
    temporary.replace(output)
    return card
