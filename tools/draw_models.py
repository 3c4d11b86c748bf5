"""Draws an encoder and a segmentation model with it: two pictures of docs/.

  python tools/draw_models.py --output_dir=docs

Needs graphviz's `dot` and pydot (extra `draw`), no weights and no data. Statuses: 0 done; 2 a
wrong command, or a missing program.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from petseg.cli import command  # isort: skip  (quiets TensorFlow before it loads)
import keras
from absl import flags
from PIL import Image

from petseg.errors import UserError
from petseg.models.segmentation_model import IMAGE, ModelOptions, build_model
from petseg.registry import DECODERS, ENCODERS

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the pictures.", required=True)
_ENCODER = flags.DEFINE_enum("encoder", "vgg16", list(ENCODERS), "The encoder.")
_DECODER = flags.DEFINE_enum("decoder", "fcn8s", list(DECODERS), "The decoder.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 224, "Pixels, a multiple of 32.", lower_bound=32)
_CLASSES = 3
_DPI = 48
_COLOURS = 16


def main(arguments: Sequence[str]) -> None:
    """Writes ENCODER.png and ENCODER_DECODER.png."""
    if arguments:
        raise UserError(f"unexpected argument '{arguments[0]}'; every option is a --flag")
    encoder, decoder = _ENCODER.value, _DECODER.value
    model = build_model(
        ModelOptions(encoder=encoder, decoder=decoder),
        num_classes=_CLASSES,
        image_size=_IMAGE_SIZE.value,
        weights="none",
    )
    folder = Path(_OUTPUT_DIR.value)
    folder.mkdir(parents=True, exist_ok=True)
    _draw(_encoder_alone(model.encoder.stages), folder / f"{encoder}.png")
    _draw(model.keras_model(), folder / f"{encoder}_{decoder}.png")


def _encoder_alone(stages: Mapping[str, keras.Model]) -> keras.Model:
    """The stages of an encoder, one after the other."""
    side = _IMAGE_SIZE.value
    images = x = keras.Input((side, side, 3), dtype="uint8", name=IMAGE)
    for stage in stages.values():
        x = stage(x)
    return keras.Model(images, x)


def _draw(model: keras.Model, path: Path) -> None:
    try:
        keras.utils.plot_model(
            model,
            str(path),
            show_shapes=True,
            show_layer_names=True,
            expand_nested=True,
            dpi=_DPI,
        )
    except ImportError as error:
        raise UserError(
            "drawing needs graphviz's `dot`, and pydot: pip install 'petseg[draw]'"
        ) from error
    # A palette of few colours makes the files a third as large.
    with Image.open(path) as image:
        drawn = image.convert("RGB").quantize(_COLOURS)
    drawn.save(path, optimize=True)
    print(path)


if __name__ == "__main__":
    command.run(main, ("output_dir", "encoder", "decoder", "image_size"))
