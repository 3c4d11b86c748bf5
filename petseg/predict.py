"""Segments pictures with a run's newest checkpoint.

  python -m petseg.predict --workdir=RUN --output_dir=OUT PATH...

A PATH is a picture or a folder. For each picture OUT gets NAME_mask.png (class ids,
one byte a pixel) and NAME_overlay.jpg, both of the picture's own size. Statuses: 0
done; 1 some picture could not be read (the others are done); 2 a wrong command or
workdir.
"""

from collections.abc import Sequence

from petseg import command_line  # isort: skip  (quiets TensorFlow before it loads)
from absl import flags

from petseg.errors import FaultFound, UserError
from petseg.trained import prediction

_WORKDIR = flags.DEFINE_string("workdir", None, "Run folder of petseg.train.", required=True)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "newest", "newest, best (by the run's best_metric) or a step."
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the pictures.", required=True)


def main(arguments: Sequence[str]) -> None:
    """Segments the pictures that the arguments name."""
    if not arguments:
        raise UserError("name at least one picture or folder: petseg.predict ... PATH...")
    jobs = prediction.list_jobs(arguments, _OUTPUT_DIR.value)
    failed = prediction.predict_files(_WORKDIR.value, jobs, _CHECKPOINT.value)
    print(f"{len(jobs) - failed} of {len(jobs)} pictures segmented: {_OUTPUT_DIR.value}")
    if failed:
        raise FaultFound(f"{failed} of {len(jobs)} pictures could not be read")


def run() -> None:
    """The console entry point."""
    command_line.run(main)


if __name__ == "__main__":
    run()
