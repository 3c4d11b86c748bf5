"""Exports a trained run.

  petseg-export --workdir=RUN --output_dir=models/pets/1
  petseg-export --workdir=RUN --output_dir=OUT --format=litert_int8
  petseg-export --workdir=RUN --output_dir=OUT --format=onnx --checkpoint=best

The exported model's masks are compared with the trained model's on validation images before
the output folder gets its name; model_card.json is written beside the model. Statuses: 0 done;
1 the exported model differs from the trained one; 2 a wrong command, workdir or output folder.
"""

from collections.abc import Sequence

from absl import flags

from petseg.cli import command, flag_parsing, path_flags
from petseg.exporting.choices import DEFAULT_MAX_PIXELS, FORMAT_NAMES

_WORKDIR = path_flags.define("workdir", None, "Run folder of petseg-train.", required=True)
_OUTPUT_DIR = path_flags.define("output_dir", None, "New or empty folder.", required=True)
_FORMAT = flags.DEFINE_enum("format", "saved_model", FORMAT_NAMES, "Format of the model.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "newest", "newest, best (by the run's best_metric) or a step."
)
_MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels",
    DEFAULT_MAX_PIXELS,
    "A SavedModel decodes no picture whose header claims more pixels.",
    lower_bound=1,
)
_DATA_DIR = path_flags.define("data_dir", None, "Data set; by default the one trained on.")


def check(arguments: Sequence[str]) -> None:
    """Refuses a wrong command before TensorFlow is loaded."""
    flag_parsing.refuse_arguments(arguments)
    path_flags.check_is_run("workdir", _WORKDIR.value)
    path_flags.check_is_data_set("data_dir", _DATA_DIR.value)


def main(_: Sequence[str]) -> None:
    """Exports to --output_dir."""
    from petseg.exporting.export_model import ExportOptions, export_model

    options = ExportOptions(
        output_dir=_OUTPUT_DIR.value,
        format=_FORMAT.value,
        data_dir=_DATA_DIR.value,
        checkpoint=_CHECKPOINT.value,
        max_pixels=_MAX_PIXELS.value,
    )
    card = export_model(_WORKDIR.value, options)
    size = sum(file["bytes"] for file in card["files"].values())
    print(
        f"{_FORMAT.value} of step {card['checkpoint_step']}, {size / 1e6:.1f} MB: "
        f"{_OUTPUT_DIR.value}; agrees with the trained model on {card['agreement']:.3%} of "
        f"{card['checked_images']} images' pixels"
    )


def run() -> None:
    """The console entry point."""
    command.run(main, ("workdir", "output_dir", "format", "checkpoint", "data_dir"), check=check)


if __name__ == "__main__":
    run()
