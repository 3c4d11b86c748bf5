"""Draws VGG16 and the segmentation model on it: two pictures of docs/.

  python tools/draw_models.py --output_dir=docs

Needs graphviz's `dot` and pydot (extra `draw`), no weights and no data. Statuses: 0 done; 2 a
wrong command, or a missing program.
"""

from collections.abc import Sequence
from pathlib import Path

from petseg.cli import command  # isort: skip  (quiets TensorFlow before it loads)
import keras
from absl import flags
from PIL import Image

from petseg.config import HEADS
from petseg.errors import UserError
from petseg.models import vgg16_skip

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the pictures.", required=True)
_DECODER = flags.DEFINE_enum("decoder", "fcn8s", HEADS, "The decoder of the segmentation model.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 224, "Pixels, a multiple of 32.", lower_bound=32)
_CLASSES = 3
_DPI = 48
_COLOURS = 16


def main(arguments: Sequence[str]) -> None:
    """Writes vgg16.png and skip_model.png."""
    if arguments:
        raise UserError(f"unexpected argument '{arguments[0]}'; every option is a --flag")
    size, folder = _IMAGE_SIZE.value, Path(_OUTPUT_DIR.value)
    stock = vgg16_skip.build_vgg16(size, "none")
    skip = vgg16_skip.build_model(
        head=_DECODER.value,
        num_classes=_CLASSES,
        image_size=size,
        backbone_weights="none",
        score_channels=32,
    )
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in (("vgg16", stock), ("skip_model", _joined(stock, skip))):
        _draw(model, folder / f"{name}.png")


def _joined(stock: keras.Model, skip: vgg16_skip.SkipModel) -> keras.Model:
    """VGG16's layers and the decoder in one graph, without the preprocessing."""
    stages = vgg16_skip.TAPPED_BLOCKS[_DECODER.value]
    features = [stock.get_layer(f"block{stage}_pool").output for stage in stages]
    return keras.Model(stock.inputs, skip.head(features))


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
    command.run(main, ("output_dir", "decoder", "image_size"))
