"""A segmentation model: an encoder and a decoder, kept apart.

Apart, because a frozen encoder stays out of the gradient tape, and because its stages can be
resumed from features that were computed before.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.utils.naming import reset_uids

from petseg.errors import UserError
from petseg.image_size import ImageSize, sides_of
from petseg.losses.base import UNKNOWN_CLASS, Outputs
from petseg.models.class_masks import ClassMasks, build_class_masks
from petseg.models.decoders.base import DecoderOptions, build_decoder, unmoved_state
from petseg.models.encoders.base import (
    IMAGE,
    IMAGE_CHANNELS,
    IMAGE_LEVEL,
    Encoder,
    EncoderOptions,
    EncoderSpec,
    Level,
)
from petseg.models.presence import build_presence_head, suppress_absent
from petseg.registry import DECODERS, ENCODERS

DECODER, ALL = "decoder", "all"  # what can be trained, beside an encoder's stages
_NAME_COUNTS = "object_name_uids"  # Keras: how often a layer's name was given
STRIDE_PX = 32  # image sizes are multiples of the deepest level's stride


@dataclasses.dataclass(frozen=True)
class SegmentationModel:
    """An encoder and a decoder on some of its levels.

    Attributes:
      encoder: Gives features.
      decoder: A list of the levels' features, from deep to shallow -> logits, float32
        [batch, height, width, classes]; or what `class_masks` makes logits of.
      levels: The levels that the decoder reads, from deep to shallow, by name.
      presence: The deepest of these features -> logits, float32 [batch, classes], whether the
        image holds each class; None without such a head.
      thresholds: With `presence`, see presence.suppress_absent; () suppresses nothing.
      class_masks: The head for the image's own class and its object's box, from
        class_masks.build_class_masks; None without one.
    """

    encoder: Encoder
    decoder: keras.Model
    levels: Mapping[str, Level]
    presence: keras.Model | None = None
    thresholds: tuple[float, ...] = ()
    class_masks: keras.Model | None = None

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """uint8 RGB [batch, height, width, 3] -> logits float32 [..., classes]."""
        return self.logits({IMAGE: images})

    def logits(self, known: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Logits of pixels, from images or from features of some stages; see `features`.

        With thresholds, those of classes that the image does not hold are suppressed.
        """
        return self._suppressed(self.outputs(known))

    def _suppressed(self, outputs: Outputs) -> tf.Tensor:
        if not self.thresholds:
            return outputs.pixels
        return suppress_absent(outputs.pixels, outputs.presence, self.thresholds)

    def outputs(
        self, known: Mapping[str, tf.Tensor], image_class: tf.Tensor | None = None
    ) -> Outputs:
        """Everything that the model gives, from images or from features; see `features`.

        The masks are those of image_class, int64 [batch], where it is given; see ClassMasks.call.
        """
        # Keras takes arrays, but not arrays beside tensors.
        known = {name: tf.convert_to_tensor(values) for name, values in known.items()}
        return self.decode(self.features(known), training=False, image_class=image_class)

    def decode(
        self,
        features: Sequence[tf.Tensor],
        *,
        training: bool,
        image_class: tf.Tensor | None = None,
    ) -> Outputs:
        """What the heads give for the levels' features, from deep to shallow; see `outputs`."""
        presence = self.presence(features[0], training=training) if self.presence else None
        pixels = self.decoder(features, training=training)
        if not self.class_masks:
            return Outputs(pixels, presence)
        if image_class is None:  # one is predicted
            zeros = keras.ops.zeros_like(features[0][:, 0, 0, 0])
            image_class = keras.ops.cast(zeros, "int64") + UNKNOWN_CLASS
        pixels, of_class, boxes = self.class_masks(
            [features[0], pixels, image_class], training=training
        )
        return Outputs(pixels, presence, of_class, boxes)

    def features(
        self, known: Mapping[str, tf.Tensor], stages: Sequence[str] = ()
    ) -> list[tf.Tensor]:
        """Outputs of some stages, computed from what is known.

        Args:
          known: Images under IMAGE, or outputs of stages under their names. A stage that is not
            known follows from the one before it.
          stages: The wanted ones; by default those of the decoder's levels, in its order.
        """
        order, outputs = [IMAGE, *self.encoder.stages], dict(known)

        def output(name: str) -> tf.Tensor:
            if name not in outputs and name != IMAGE:
                before = output(order[order.index(name) - 1])
                outputs[name] = self.encoder.stages[name](before, training=False)
            return outputs[name]

        return [output(name) for name in stages or self.level_stages]

    @property
    def level_stages(self) -> tuple[str, ...]:
        """The stages whose outputs the decoder reads, from deep to shallow; IMAGE is one."""
        return tuple(level.stage for level in self.levels.values())

    def output_shape(self, stage: str) -> tuple[int, int, int]:
        """Height, width and channels of a stage's output, or of IMAGE."""
        first, *_ = self.encoder.stages.values()
        tensor = first.input if stage == IMAGE else self.encoder.stages[stage].output
        return tuple(tensor.shape[1:])

    def cacheable_stages(self, trainable: str) -> tuple[str, ...]:
        """The stages whose outputs stay the same while something is trained.

        With these outputs nothing else is needed; stages in between are left out.

        Args:
          trainable: DECODER, a stage of the encoder (it, and all that follows), or ALL.

        Returns:
          Names of stages, from shallow to deep, IMAGE being one if the decoder reads it; () if
          the first stage is trained.
        """
        order = [IMAGE, *self.encoder.stages]
        needed = set(self.level_stages)
        if trainable == DECODER:
            return tuple(name for name in order if name in needed)
        first = 1 if trainable == ALL else order.index(trainable)
        if first == 1:
            return ()
        return tuple(n for n in order[:first] if n in needed or n == order[first - 1])

    def trainable_weights(self, trainable: str) -> list[keras.Variable]:
        """The weights that training moves.

        Args:
          trainable: DECODER, a stage of the encoder (it, all stages after it, and the
            decoder), or ALL.
        """
        stages: list[str] = []
        if trainable != DECODER:
            order = list(self.encoder.stages)
            stages = order[0 if trainable == ALL else order.index(trainable) :]
        models = [*(self.encoder.stages[name] for name in stages), *self.heads]
        return [variable for model in models for variable in model.trainable_variables]

    @property
    def variables(self) -> list[keras.Variable]:
        """Every variable of the encoder and of the heads."""
        return [*self.encoder.variables, *(v for head in self.heads for v in head.variables)]

    @property
    def heads(self) -> list[keras.Model]:
        """The decoder and the other heads that there are: trained whenever anything is."""
        return [head for head in (self.decoder, self.presence, self.class_masks) if head]

    def keras_model(self) -> keras.Model:
        """One Keras model that shares all variables: uint8 images -> logits."""
        sides = self.decoder.output_shape[1:3]
        images = keras.Input((*sides, IMAGE_CHANNELS), dtype="uint8", name=IMAGE)
        logits = self._suppressed(self.decode(self.features({IMAGE: images}), training=False))
        return keras.Model(images, logits, name=f"{self.encoder.name}_segmentation")


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """What a model is built with.

    Attributes:
      encoder: A name of registry.ENCODERS.
      decoder: A name of registry.DECODERS.
      encoder_width: See EncoderOptions.
      encoder_convs: See EncoderOptions.
      decoder_channels: See DecoderOptions.
      seed: Seed of every initial weight that is not read from a file.
      presence: Whether there is a head for the presence of each class in an image.
      class_masks: 'none', or a kind of class_masks.ClassMasks.
      image_classes: With it, how many classes an image may have.
    """

    encoder: str = "vgg16"
    decoder: str = "fcn8s"
    encoder_width: int = 0
    encoder_convs: tuple[int, ...] = ()
    decoder_channels: int = 32
    seed: int = 0
    presence: bool = False
    class_masks: str = "none"
    image_classes: int = 0


@contextlib.contextmanager
def _leaving_names() -> Iterator[None]:
    """Afterwards layers of the user's own models are numbered as if nothing had been built."""
    counts = global_state.get_global_attribute(_NAME_COUNTS)
    try:
        yield
    finally:
        global_state.set_global_attribute(_NAME_COUNTS, counts)


@_leaving_names()
def build_model(
    options: ModelOptions,
    *,
    num_classes: int,
    image_size: ImageSize,
    weights: str,
    precision: str = "float32",
) -> SegmentationModel:
    """Builds an encoder and a decoder.

    Args:
      options: See ModelOptions.
      num_classes: Logits of each pixel.
      image_size: Height and width of the images in pixels, multiples of 32.
      weights: The encoder's: 'imagenet' (Keras downloads them), 'none' or a file's path.
      precision: 'float32', 'mixed_bfloat16' or 'mixed_float16'; weights and logits are
        float32 in any case.

    Raises:
      UserError: The size is wrong, there is no such encoder or decoder, they do not fit each
        other, or the weights cannot be loaded.
    """
    _check_size(image_size)
    encoder_spec, decoder_spec = ENCODERS.get(options.encoder), DECODERS.get(options.decoder)
    # Layers without a name get the same one in every model, whatever was built before.
    reset_uids()
    with _layer_settings(precision):
        encoder = encoder_spec.build(
            EncoderOptions(
                image_size,
                weights,
                options.encoder_width,
                options.encoder_convs,
                options.seed,
                decoder_spec.output_stride,
            )
        )
        _check_encoder(encoder, encoder_spec, image_size)
        _refuse_unmoved_state(encoder)
        levels = {IMAGE_LEVEL: Level(IMAGE, 1, IMAGE_CHANNELS), **encoder.levels}
        deepest = levels[decoder_spec.levels[0]]
        shape = tuple(encoder.stages[deepest.stage].output.shape[1:])
        presence = class_head = class_masks = None
        if options.presence:
            presence = build_presence_head(deepest, shape, num_classes)
        if options.class_masks != "none":
            class_head = ClassMasks(
                options.class_masks,
                deepest,
                options.image_classes,
                num_classes,
                options.decoder_channels,
                options.seed,
            )
            class_masks = build_class_masks(class_head, shape, sides_of(image_size))
        decoder = build_decoder(
            options.decoder,
            decoder_spec,
            levels,
            image_size,
            DecoderOptions(
                class_head.decoder_channels if class_head else num_classes,
                options.decoder_channels,
                options.seed,
            ),
        )
        read = {name: levels[name] for name in decoder_spec.levels}
    model = SegmentationModel(encoder, decoder, read, presence, class_masks=class_masks)
    _refuse_equal_names(model)
    return model


def _check_size(image_size: ImageSize) -> None:
    sides = sides_of(image_size)
    if len(sides) != 2 or any(type(n) is not int or n < 1 or n % STRIDE_PX for n in sides):
        raise UserError(
            f"image_size={image_size!r} must be a positive multiple of {STRIDE_PX}, or two, "
            "(height, width)"
        )


def _check_encoder(encoder: Encoder, spec: EncoderSpec, image_size: ImageSize) -> None:
    """Checks that an encoder is what its specification and its levels say."""
    where = f"config.model.encoder={encoder.name}"
    if tuple(encoder.stages) != spec.stages:
        raise UserError(f"{where}: it has stages {tuple(encoder.stages)}, not {spec.stages}")
    height, width = sides_of(image_size)
    for name, level in encoder.levels.items():
        shape = encoder.stages[level.stage].output.shape
        expected = (height // level.stride, width // level.stride, level.channels)
        if tuple(shape[1:]) != expected:
            raise UserError(
                f"{where}: stage '{level.stage}' gives {tuple(shape[1:])}, but level {name} says "
                f"{expected}"
            )


def _refuse_equal_names(model: SegmentationModel) -> None:
    """Checkpoints hold variables by name."""
    paths = [variable.path for variable in model.variables]
    for path in paths:
        if paths.count(path) > 1:
            raise UserError(
                f"encoder '{model.encoder.name}' and its decoder have two variables called "
                f"'{path}'; give their layers different names"
            )


def _refuse_unmoved_state(encoder: Encoder) -> None:
    """Only normalisation, whose statistics are frozen by contract, may have state."""
    frozen = keras.layers.BatchNormalization | keras.layers.Normalization
    for stage in encoder.stages.values():
        for layer, variable in unmoved_state(stage):
            if not isinstance(layer, frozen):
                raise UserError(
                    f"config.model.encoder={encoder.name}: layer '{layer.name}' "
                    f"({type(layer).__name__}) keeps '{variable.name}', which training would "
                    "never move; leave that layer out"
                )


@contextlib.contextmanager
def _layer_settings(precision: str) -> Iterator[None]:
    """Layers made within the context are the same whatever keras.json or a notebook has set."""
    config = keras.config
    before = config.floatx(), config.dtype_policy(), config.image_data_format(), config.epsilon()

    def apply(floatx: str, policy: object, data_format: str, epsilon: float) -> None:
        config.set_floatx(floatx)
        config.set_dtype_policy(policy)
        config.set_image_data_format(data_format)
        config.set_epsilon(epsilon)

    apply("float32", precision, "channels_last", 1e-7)
    try:
        yield
    finally:
        apply(*before)
