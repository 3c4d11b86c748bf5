"""Predicts the masks of pictures and videos with a trained run.

  petseg-predict --workdir=RUN --output_dir=OUT photo.jpg folder/ clip.mp4
  petseg-predict --workdir=RUN --output_dir=OUT --write=colours,probabilities photo.jpg
  petseg-predict --workdir=RUN --output_dir=OUT --write=rle folder/
  petseg-predict --workdir=RUN --output_dir=OUT --write=proposals,proposal_pictures folder/
  find . -name '*.jpg' | petseg-predict --workdir=RUN --output_dir=OUT -

A PATH is a picture, a video, a folder, or - for a list of them on standard input. For each picture
OUT gets, at its full size, NAME_mask.png (class ids, one byte per pixel, and a palette of the
classes' colours) and NAME_overlay.jpg (the picture, coloured but for the background), or what
--write names; for each video NAME_overlay.mp4 and a folder NAME_mask of frames. --write=rle is one
file for all pictures, OUT/predictions.csv, with the run lengths of each class in each picture, as
competitions take them. --write=proposals, of a run that was trained on patches, is
OUT/proposals.json, ranked object proposals of all pictures (mask, box and score) as COCO's result
file, and OUT/proposals_images.json, which picture has which id; --write=proposal_pictures draws
the best, NAME_proposals.jpg. Only files that it made itself are replaced, and they are not
predicted. Statuses: 0 done; 1 some could not be read to their end (the others are done); 2 a wrong
command or workdir.
"""

import sys
from collections.abc import Sequence

from absl import flags

from petseg.cli import command, path_flags, postprocessing_flags, proposal_flags, tta_flags
from petseg.errors import FaultFound, UserError
from petseg.inference import output_kinds

_WORKDIR = path_flags.define("workdir", None, "Run folder of petseg-train.", required=True)
_OUTPUT_DIR = path_flags.define("output_dir", None, "Folder for the masks.", required=True)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "newest", "newest, best (by the run's best_metric) or a step."
)
_WRITE = flags.DEFINE_list(
    "write",
    [output_kinds.CLASS_IDS, output_kinds.OVERLAY],
    f"Output: any of {','.join(output_kinds.KINDS)}.",
)
_COLOURS = flags.DEFINE_list(
    "colours", [], "Colours of the classes, #rrggbb,... ; by default those of the data set."
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 8, "Images that are computed together.", lower_bound=1
)
_RLE_CLASSES = flags.DEFINE_list(
    "rle_classes", [], "Classes that have rows in predictions.csv; by default all but background."
)
_RLE_COLUMNS = flags.DEFINE_list(
    "rle_columns",
    list(output_kinds.RLE_COLUMNS),
    "Names of the columns of predictions.csv; two, such as img,pixels, leave out the class.",
)
_TTA = tta_flags.define()
_POSTPROCESSING = postprocessing_flags.define()
_PROPOSAL_FLAGS, _MAKE_PROPOSER = proposal_flags.define()


def check(arguments: Sequence[str]) -> None:
    """Refuses a wrong command before TensorFlow is loaded."""
    if not arguments:
        raise UserError("name at least one picture or folder: petseg-predict ... PATH...")
    path_flags.check_is_run("workdir", _WORKDIR.value)
    output_kinds.check(_WRITE.value)
    for flag in (_RLE_CLASSES, _RLE_COLUMNS):
        if flag.present and output_kinds.RLE not in _WRITE.value:
            raise UserError(f"--{flag.name} is for --write=rle")
    for flag in _PROPOSAL_FLAGS:
        if flag.present and not _is_proposing():
            raise UserError(f"--{flag.name} is for --write=proposals")


def main(arguments: Sequence[str]) -> None:
    """Predicts the pictures and videos that the arguments name."""
    from petseg.inference import outputs, run_length_file
    from petseg.inference.jobs import plan_jobs
    from petseg.inference.outputs import OutputOptions
    from petseg.inference.predict_files import predict_files
    from petseg.inference.predictor import make_predictor
    from petseg.proposals import proposal_file
    from petseg.proposals.propose_files import propose_files
    from petseg.run_dir import trained_model

    postprocessing = _POSTPROCESSING()
    is_rle = output_kinds.RLE in _WRITE.value
    run_length_file.check_columns(_RLE_COLUMNS.value)
    colours = outputs.parse_colours(_COLOURS.value)
    if output_kinds.PROPOSALS in _WRITE.value:
        proposal_file.check_free(_OUTPUT_DIR.value)
    plan = plan_jobs(arguments, _OUTPUT_DIR.value, _WRITE.value)
    jobs = plan.jobs
    for note in plan.notes:
        print(note, file=sys.stderr)
    trained = trained_model.load_trained_model(_WORKDIR.value, _CHECKPOINT.value)
    names = trained.label_map.names
    palette = outputs.replace_colours(trained.palette, names, colours)
    kinds = tuple(kind for kind in _WRITE.value if kind in output_kinds.OF_EACH)
    run_lengths = None
    if is_rle:
        run_lengths = run_length_file.choose_options(
            _OUTPUT_DIR.value, _RLE_COLUMNS.value, _RLE_CLASSES.value, names
        )
    failed = 0
    if _is_proposing():
        proposer = _MAKE_PROPOSER(trained)
        failed = propose_files(proposer, jobs, _OUTPUT_DIR.value, _WRITE.value, trained.image_range)
        print(proposer.line(), file=sys.stderr)
    if kinds or is_rle:
        predictor = make_predictor(trained, _TTA(), _BATCH_SIZE.value, postprocessing)
        options = OutputOptions(kinds, names, palette, run_lengths)
        failed = predict_files(predictor, jobs, options)
    print(f"{len(jobs) - failed} of {len(jobs)} files predicted: {_OUTPUT_DIR.value}")
    if failed:
        raise FaultFound(f"{failed} of {len(jobs)} files could not be read, or not to their end")


def _is_proposing() -> bool:
    return not set(output_kinds.OF_PROPOSALS).isdisjoint(_WRITE.value)


def run() -> None:
    """The console entry point."""
    command.run(main, ("workdir", "output_dir", "write", "checkpoint", "batch_size"), check=check)


if __name__ == "__main__":
    run()
