"""petseg as a library.

    import petseg

    petseg.convert("pets", "records")
    run = petseg.train(petseg.load_recipe("oxford_pets", "records"), "run")
    run.evaluate("validation")["mean_iou"]
    run.predict(image)

Mistakes raise petseg.UserError and petseg.FaultFound, whose text is one line. TensorFlow is
loaded when a function first needs it. Every function may be called off the main thread, where
signals are left alone, several times in one process, and in a notebook.
"""

import dataclasses
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from petseg import paths, recipes, standard_error
from petseg.config import Config
from petseg.errors import UserError, did_you_mean
from petseg.image_size import ImageSize, sides_of

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from petseg.data.manifest import Manifest
    from petseg.inference.postprocessing import PostprocessingOptions
    from petseg.inference.predictor import Predictor
    from petseg.inference.tta import TtaOptions

# Of ConvertOptions, besides the two folders.
_PATH_OPTIONS = {
    *("images", "masks", "annotations", "classes"),
    *("train_list", "validation_list", "test_list"),
}


def convert(
    raw_dir: str,
    output_dir: str,
    *,
    source: str = "oxford_iiit_pet",
    show_progress: bool = True,
    accept_losses: bool = False,
    **options: Any,  # noqa: ANN401  (those of ConvertOptions, whose types differ)
) -> "Manifest":
    """Converts images and masks to TFRecord shards, as petseg-convert does.

    Args:
      raw_dir: The folder of the raw data.
      output_dir: A new or empty folder, or one in which a conversion was interrupted.
      source: A name of registry.SOURCES.
      show_progress: Show progress bars.
      accept_losses: Return normally though a class has no pixel, a tenth of the inputs is
        rejected for one reason, or palettes of masks contradict each other.
      **options: The others of petseg.conversion.convert.ConvertOptions, such as
        short_side_px=256 or validation_fraction=0.2. workers is 1 where processes cannot be
        forked safely, as in a notebook in which TensorFlow has worked already.

    Returns:
      What manifest.json holds: splits, shards, label counts, repaired and rejected inputs.

    Raises:
      UserError: An option, the raw data or the folder is wrong.
      FaultFound: A class or a tenth of the inputs is lost, or palettes contradict each other (the
        data set is written all the same), and accept_losses is not set; an input is bad and
        on_bad='fail'; or the folder cannot be written.
    """
    _load_tensorflow()
    from petseg import processes
    from petseg.conversion import review
    from petseg.conversion.convert import ConvertOptions
    from petseg.conversion.convert import convert as run_conversion

    # Spawned processes would run a script again that has no `if __name__ == "__main__"`.
    if not processes.can_fork():
        options.setdefault("workers", 1)
    known = [field.name for field in dataclasses.fields(ConvertOptions)]
    known += ["show_progress", "accept_losses"]
    for name in options:
        if name not in known:
            hint = did_you_mean(name, known)
            raise UserError(f"convert has no option {name}: it has {', '.join(known)}{hint}")
    for name in _PATH_OPTIONS & options.keys():
        options[name] = paths.expand(options[name])
    chosen = ConvertOptions(
        raw_dir=paths.expand(raw_dir), output_dir=paths.expand(output_dir), source=source, **options
    )
    finished = run_conversion(chosen, show_progress=show_progress)
    if not accept_losses:
        review.check_losses(finished, str(output_dir))
    return finished


def load_recipe(name: str, data_dir: str = "") -> Config:
    """Settings from a recipe, to change as you like and train with.

    Args:
      name: The name of a recipe that comes with petseg, such as 'oxford_pets', or the path of
        a Python file with a function get_config().
      data_dir: The data set that petseg.convert wrote.

    Raises:
      UserError: There is no such recipe.
    """
    config = recipes.load(str(name))
    if data_dir:
        config.data.dir = str(data_dir)
    return config


def load_dataset(
    data_dir: str,
    *,
    image_size: ImageSize = 224,
    batch_size: int = 16,
    label_map: str = "",
    seed: int = 0,
    config: Config | None = None,
) -> tuple["tf.data.Dataset", "tf.data.Dataset"]:
    """The training and validation splits of a data set, as training reads them.

    All shards are compared with the manifest before this returns, which takes about a second
    for each GB, so that a damaged one is no error of TensorFlow's in the midst of an epoch.
    A config whose data.verify_hashes is False leaves it out.

    Args:
      data_dir: The data set that petseg.convert wrote.
      image_size: In pixels: one number, or (height, width); multiples of 32. Images of other
        sizes are squashed to it; a config whose data.keep_aspect is True fits them into it.
      batch_size: Images per batch.
      label_map: See config.DataConfig; '' for the data set's own classes.
      seed: Seed of order and augmentation.
      config: Settings to read it with instead of the arguments before, augmentation included.

    Returns:
      Two datasets of (image, mask): uint8 [batch, height, width, 3], RGB, and uint8
      [batch, height, width], class ids, or 255 for pixels to ignore
      (ignore_class=255 of Keras's losses). Each pass over the first is another epoch, with
      another order and augmentation; it has records // batch_size batches, and what is left
      over begins the next epoch. The second always shows every example once. Both have
      a len(), their number of batches.

    Raises:
      UserError: The data set, the label map or a setting is wrong.
      FaultFound: A shard differs from the manifest.
    """
    _load_tensorflow()
    import tensorflow as tf

    from petseg import config_json, config_rules
    from petseg.devices import Devices
    from petseg.input_pipeline import augment
    from petseg.training.data import open_data_set

    if config is None:
        config = Config()
        config.data.image_size, config.data.batch_size = image_size, batch_size
        config.data.label_map, config.train.seed = label_map, seed
    config_rules.validate(config)
    config = config_json.spell_out(config)
    config.data.dir = str(data_dir)
    data = open_data_set(config)
    data.verify()
    batches = data.image_batches(Devices(tf.distribute.get_strategy()))
    steps = data.train.records // config.data.batch_size
    if not steps:
        raise UserError(
            f"batch_size={config.data.batch_size} is more than the {data.train.records} training "
            "images; use a smaller one"
        )
    epochs = itertools.count()

    def one_epoch() -> Iterator[tuple["tf.Tensor", "tf.Tensor"]]:
        epoch = batches.train("all", next(epochs) * steps).take(steps)
        for batch in epoch.map(augment.apply, num_parallel_calls=tf.data.AUTOTUNE):
            yield batch["image"], batch["mask"]

    shape = [config.data.batch_size, *sides_of(config.data.image_size)]
    signature = (tf.TensorSpec([*shape, 3], tf.uint8), tf.TensorSpec(shape, tf.uint8))
    train = tf.data.Dataset.from_generator(one_epoch, output_signature=signature)
    train = train.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(2)

    @tf.autograph.experimental.do_not_convert
    def without_filling(batch: dict[str, "tf.Tensor"]) -> tuple["tf.Tensor", "tf.Tensor"]:
        is_example = batch["weight"] > 0
        return batch["image"][is_example], batch["mask"][is_example]

    count = -(-data.validation.records // config.data.batch_size)
    validation = batches.validation("all").map(without_filling)
    return train, validation.apply(tf.data.experimental.assert_cardinality(count))


def build_model(
    encoder: str = "vgg16",
    decoder: str = "fcn8s",
    *,
    num_classes: int,
    weights: str = "imagenet",
    image_size: ImageSize = 224,
    decoder_channels: int = 32,
    encoder_width: int = 0,
    encoder_convs: Sequence[int] = (),
    seed: int = 0,
) -> "keras.Model":
    """A segmentation model as a plain Keras model.

    Args:
      encoder: A name of registry.ENCODERS.
      decoder: A name of registry.DECODERS.
      num_classes: Number of classes.
      weights: Of the encoder: 'imagenet' (Keras downloads them), 'none' or a file's path.
      image_size: Of the images, in pixels: one number, or (height, width); multiples of 32.
      decoder_channels: See config.ModelConfig.
      encoder_width: See config.ModelConfig.
      encoder_convs: See config.ModelConfig.
      seed: Seed of the random weights.

    Returns:
      A model: uint8 RGB [batch, height, width, 3] -> logits, float32 [batch, height, width,
      num_classes]. It preprocesses the images itself. Batch normalisation of the encoder is
      frozen.

    Raises:
      UserError: The size is wrong, there is no such encoder or decoder, they do not fit each
        other, or the weights cannot be loaded.
    """
    _load_tensorflow()
    import keras

    from petseg.models import segmentation_model

    options = segmentation_model.ModelOptions(
        encoder, decoder, encoder_width, tuple(encoder_convs), decoder_channels, seed
    )
    model = segmentation_model.build_model(
        options, num_classes=num_classes, image_size=image_size, weights=paths.expand(weights)
    )
    for stage in model.encoder.stages.values():
        for layer in stage.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
    return model.keras_model()


def train(config: Config, run_dir: str) -> "Run":
    """Trains with some settings, or resumes the run in a folder, as petseg-train does.

    Args:
      config: The settings, which are not changed.
      run_dir: Folder for checkpoints and TensorBoard's events.

    Raises:
      UserError: A setting, the data set or the run folder is wrong.
      FaultFound: A shard is damaged, the loss is not finite, or a checkpoint cannot be
        written.
      StoppedBySignal: SIGINT or SIGTERM came (on the main thread); everything is saved.
    """
    _load_tensorflow()
    from petseg.training.trainer import train_and_evaluate

    train_and_evaluate(config, paths.expand(run_dir))
    return load_run(run_dir)


def load_run(run_dir: str) -> "Run":
    """A run that was trained before; raises UserError if the folder holds none."""
    return Run(run_dir)


class Run:
    """A trained run: its figures, and its model ready for images.

    Attributes:
      run_dir: The run folder.
      config: The settings that it was trained with.
    """

    def __init__(self, run_dir: str):
        """Reads the settings; weights are loaded when they are first needed."""
        _load_tensorflow()
        from petseg.run_dir import run_folder

        self.run_dir = paths.expand(run_dir)
        self.config: Config = run_folder.read_config(self.run_dir)
        self._predictors: dict[tuple[str, Any], Predictor] = {}

    def __repr__(self) -> str:
        return f"petseg.load_run({self.run_dir!r})"

    @property
    def history(self) -> list[dict[str, Any]]:
        """The evaluations during training, in order: step, seconds, mean_iou, iou, ..."""
        from petseg.run_dir import evaluations

        seconds = evaluations.read_seconds(self.run_dir)
        return [
            {"step": step, "seconds": seconds.get(step), **figures}
            for step, figures in sorted(evaluations.read_evaluations(self.run_dir).items())
        ]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their ids."""
        from petseg.data.label_map import parse_label_map

        return parse_label_map(self.config.data.label_map).names

    def evaluate(
        self,
        split: str = "validation",
        *,
        data_dir: str | None = None,
        checkpoint: str | int = "newest",
        tta: "TtaOptions | None" = None,
        postprocessing: "PostprocessingOptions | None" = None,
    ) -> dict[str, Any]:
        """Counts every pixel of a split once, as petseg-evaluate does.

        Args:
          split: 'train', 'validation' or 'test'.
          data_dir: The data set; None for the one that the run was trained on.
          checkpoint: 'newest', 'best' (by the run's best_metric) or a step.
          tta: Test-time augmentation; None for the images alone.
          postprocessing: What is done to predictions at the images' own size; None for nothing.

        Returns:
          What RUN/evaluation/SPLIT.json holds: mean_iou, iou by class, and much more.

        Raises:
          UserError: The data set or the split does not exist or does not fit.
          FaultFound: A shard differs from its manifest.
        """
        from petseg.evaluation.evaluate_split import EvaluateOptions, evaluate_split
        from petseg.inference.postprocessing import PostprocessingOptions
        from petseg.inference.tta import TtaOptions

        options = EvaluateOptions(
            split=split,
            data_dir=data_dir and paths.expand(data_dir),
            checkpoint=str(checkpoint),
            tta=tta or TtaOptions(),
            postprocessing=postprocessing or PostprocessingOptions(),
        )
        return evaluate_split(self.run_dir, options)

    def predict(
        self,
        image: "np.ndarray",
        *,
        probabilities: bool = False,
        checkpoint: str | int = "newest",
        tta: "TtaOptions | None" = None,
        postprocessing: "PostprocessingOptions | None" = None,
    ) -> "np.ndarray":
        """Segments an image of any size.

        Args:
          image: uint8 [height, width, 3], RGB.
          probabilities: Return the probability of each class instead of the best one.
          checkpoint: 'newest', 'best' (by the run's best_metric) or a step.
          tta: Test-time augmentation; None for the image alone.
          postprocessing: What is done to the prediction; None for nothing.

        Returns:
          uint8 [height, width], class ids; or float32 [height, width, classes].

        Raises:
          UserError: The image has another type or shape, or there is no such checkpoint.
        """
        import numpy as np

        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
            raise UserError(
                f"image: {image.dtype} {list(image.shape)} must be uint8 [height, width, 3], RGB"
            )
        predictor = self._predictor(str(checkpoint), tta, postprocessing)
        return predictor.predict_probabilities(image) if probabilities else predictor.predict(image)

    def export(
        self,
        output_dir: str,
        *,
        format: str = "saved_model",
        checkpoint: str | int = "newest",
        max_pixels: int | None = None,
    ) -> dict[str, Any]:
        """Exports the model, as petseg-export does.

        Args:
          output_dir: A new or empty folder.
          format: saved_model, keras, litert, litert_int8 or onnx.
          checkpoint: 'newest', 'best' (by the run's best_metric) or a step.
          max_pixels: A SavedModel decodes no picture whose header claims more pixels; None for
            64 million.

        Returns:
          The model card: inputs, outputs, classes, agreement with the trained model, ...

        Raises:
          UserError: The folder is not empty, there is no such format, or a package is missing.
          FaultFound: The exported model differs from the trained one.
        """
        from petseg.exporting.export_model import ExportOptions, export_model

        limit = {} if max_pixels is None else {"max_pixels": max_pixels}
        options = ExportOptions(
            paths.expand(output_dir), format, checkpoint=str(checkpoint), **limit
        )
        return export_model(self.run_dir, options)

    def _predictor(
        self,
        checkpoint: str,
        tta: "TtaOptions | None",
        postprocessing: "PostprocessingOptions | None",
    ) -> "Predictor":
        from petseg.inference.predictor import make_predictor
        from petseg.inference.tta import TtaOptions
        from petseg.run_dir.trained_model import load_trained_model

        key = (checkpoint, tta, postprocessing)
        if key not in self._predictors:
            trained = load_trained_model(self.run_dir, checkpoint)
            self._predictors[key] = make_predictor(
                trained, tta or TtaOptions(), batch_size=1, postprocessing=postprocessing
            )
        return self._predictors[key]


def _load_tensorflow() -> None:
    """Imports TensorFlow without the lines that its libraries print while they load.

    Raises:
      UserError: Keras runs, or would run, on another library.
    """
    loaded = sys.modules.get("keras")
    backend = loaded.config.backend() if loaded else os.environ.get("KERAS_BACKEND")
    if backend != "tensorflow":
        raise UserError(
            f"KERAS_BACKEND={backend}: petseg needs Keras on tensorflow; set os.environ"
            "['KERAS_BACKEND'] = 'tensorflow' before anything imports keras"
        )
    standard_error.import_tensorflow()
