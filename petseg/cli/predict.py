"""Segments pictures and videos with a trained run.

  python -m petseg.predict --workdir=RUN --output_dir=OUT photo.jpg folder/ clip.mp4
  python -m petseg.predict --workdir=RUN --output_dir=OUT --write=colours,probabilities photo.jpg
  find . -name '*.jpg' | python -m petseg.predict --workdir=RUN --output_dir=OUT -

A PATH is a picture, a video, a folder, or - for a list of them on standard input. For each
picture OUT gets, at its own size, NAME_mask.png (class ids, one byte a pixel) and
NAME_overlay.jpg, or what --write names; for each video NAME_overlay.mp4 and a folder
NAME_mask of frames. Statuses: 0 done; 1 some could not be read to their end (the others are
done); 2 a wrong command or workdir.
"""

from collections.abc import Sequence

from petseg.cli import command, tta_flags  # isort: skip  (quiets TensorFlow before it loads)
from absl import flags

from petseg.errors import FaultFound, UserError
from petseg.inference import outputs, prediction

_WORKDIR = flags.DEFINE_string("workdir", None, "Run folder of petseg.train.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the masks.", required=True)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "newest", "newest, best (by the run's best_metric) or a step."
)
_WRITE = flags.DEFINE_list(
    "write", [outputs.CLASS_IDS, outputs.OVERLAY], f"What: any of {','.join(outputs.KINDS)}."
)
_COLOURS = flags.DEFINE_list(
    "colours", [], "Colours of the classes, #rrggbb,... ; by default those of the data set."
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 8, "Images that are computed together.", lower_bound=1
)
_VIEWS = tta_flags.define()


def main(arguments: Sequence[str]) -> None:
    """Segments what the arguments name."""
    if not arguments:
        raise UserError("name at least one picture or folder: petseg.predict ... PATH...")
    if not _WRITE.value:
        raise UserError(f"--write names nothing; it may be any of {', '.join(outputs.KINDS)}")
    for kind in _WRITE.value:
        if kind not in outputs.KINDS:
            raise UserError(f"--write: '{kind}' is none of {', '.join(outputs.KINDS)}")
    colours = prediction.read_colours(_COLOURS.value)
    jobs = prediction.list_jobs(arguments, _OUTPUT_DIR.value)
    segmenter = prediction.load_segmenter(
        _WORKDIR.value, _CHECKPOINT.value, _VIEWS(), _BATCH_SIZE.value, colours
    )
    failed = prediction.predict_files(segmenter, jobs, _WRITE.value)
    print(f"{len(jobs) - failed} of {len(jobs)} files segmented: {_OUTPUT_DIR.value}")
    if failed:
        raise FaultFound(f"{failed} of {len(jobs)} files could not be read to their end")


def run() -> None:
    """The console entry point."""
    command.run(main, ("workdir", "output_dir", "write", "checkpoint", "batch_size"))


if __name__ == "__main__":
    run()
