"""Evaluates a run on one split.

  petseg-evaluate --workdir=RUN
  petseg-evaluate --workdir=RUN --split=test --checkpoint=best
  petseg-evaluate --workdir=RUN --flip --scales=0.75,1,1.25
  petseg-evaluate --workdir=RUN --proposals

Prints a table and writes all figures to RUN/evaluation/SPLIT.json, with
SPLIT_report.html and SPLIT_panel.png beside it. With --json, or where standard output is no
terminal, the last line is the same JSON in one line. --proposals, of a run that was trained on
patches, prints the average recall of its object proposals instead, and writes
RUN/evaluation/proposals/SPLIT.json. Statuses: 0 done; 1 a damaged shard;
2 a wrong command, workdir or data set.
"""

import sys
from collections.abc import Sequence

from absl import flags

from petseg.cli import (
    command,
    flag_parsing,
    json_flag,
    path_flags,
    postprocessing_flags,
    proposal_flags,
    tta_flags,
)
from petseg.errors import UserError

_WORKDIR = path_flags.define("workdir", None, "Run folder of petseg-train.", required=True)
_SPLIT = flags.DEFINE_string("split", "validation", "The split to evaluate.")
_DATA_DIR = path_flags.define("data_dir", None, "Data set; by default the one trained on.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "newest", "newest, best (by the run's best_metric) or a step."
)
_PANEL_IMAGES = flags.DEFINE_integer(
    "panel_images", 8, "Images in the panel, and in those of the worst and best.", lower_bound=1
)
_PRINT_JSON = json_flag.define()
_PROPOSALS = flags.DEFINE_bool("proposals", False, "Evaluate object proposals.")
_MAX_IMAGES = flags.DEFINE_integer(
    "max_images", 0, "With --proposals: only the first images; 0 for all.", lower_bound=0
)
_TTA = tta_flags.define()
_POSTPROCESSING = postprocessing_flags.define()
_PROPOSAL_FLAGS, _MAKE_PROPOSER = proposal_flags.define()


def check(arguments: Sequence[str]) -> None:
    """Refuses a wrong command before TensorFlow is loaded."""
    flag_parsing.refuse_arguments(arguments)
    path_flags.check_is_run("workdir", _WORKDIR.value)
    path_flags.check_is_data_set("data_dir", _DATA_DIR.value)
    for flag in () if _PROPOSALS.value else (_MAX_IMAGES, *_PROPOSAL_FLAGS):
        if flag.present:
            raise UserError(f"--{flag.name} is for --proposals")


def main(_: Sequence[str]) -> None:
    """Evaluates --split and prints the figures."""
    if _PROPOSALS.value:
        _evaluate_proposals()
        return
    from petseg.evaluation.evaluate_split import EvaluateOptions, evaluate_split
    from petseg.evaluation.table import format_table
    from petseg.metrics import never_predicted

    options = EvaluateOptions(
        split=_SPLIT.value,
        data_dir=_DATA_DIR.value,
        checkpoint=_CHECKPOINT.value,
        tta=_TTA(),
        postprocessing=_POSTPROCESSING(),
        panel_images=_PANEL_IMAGES.value,
    )
    figures = evaluate_split(_WORKDIR.value, options)
    print(format_table(figures))
    if lost := figures["never_predicted"]:
        print(never_predicted.warning(lost), file=sys.stderr)
    _PRINT_JSON(figures)


def _evaluate_proposals() -> None:
    from petseg.evaluation.evaluate_proposals import (
        ProposalEvaluation,
        evaluate_proposals,
        format_recall,
    )

    options = ProposalEvaluation(
        _SPLIT.value, _DATA_DIR.value, _CHECKPOINT.value, _MAX_IMAGES.value
    )
    figures = evaluate_proposals(_WORKDIR.value, options, _MAKE_PROPOSER)
    print(format_recall(figures))
    _PRINT_JSON(figures)


def run() -> None:
    """The console entry point."""
    command.run(main, ("workdir", "split", "checkpoint", "data_dir", "flip"), check=check)


if __name__ == "__main__":
    run()
