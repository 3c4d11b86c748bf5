"""Exports a run's newest checkpoint.

  python -m petseg.export --workdir=RUN --output_dir=OUT --format=saved_model

Statuses: 0 done; 1 the exported model differs from the trained one; 2 a wrong command,
workdir or output folder.
"""

from collections.abc import Sequence

from petseg import command_line  # isort: skip  (quiets TensorFlow before it loads)
from absl import flags

from petseg.errors import UserError
from petseg.trained import exporting

_WORKDIR = flags.DEFINE_string("workdir", None, "Run folder of petseg.train.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "New or empty folder.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Data set; by default the one trained on.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "newest", "newest, best (by the run's best_metric) or a step."
)
_FORMAT = flags.DEFINE_enum("format", "saved_model", ["saved_model"], "What to write.")


def main(arguments: Sequence[str]) -> None:
    """Exports to --output_dir."""
    if arguments:
        raise UserError(f"unexpected argument '{arguments[0]}'; every option is a --flag")
    card = exporting.export_saved_model(
        _WORKDIR.value, _OUTPUT_DIR.value, _DATA_DIR.value, _CHECKPOINT.value
    )
    print(
        f"{_FORMAT.value} of step {card['checkpoint_step']}: {_OUTPUT_DIR.value}; agrees with "
        f"the trained model on {card['agreement']:.2%} of {card['checked_images']} images' pixels"
    )


def run() -> None:
    """The console entry point."""
    command_line.run(main)


if __name__ == "__main__":
    run()
