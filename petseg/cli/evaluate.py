"""Scores a run on one split.

  python -m petseg.evaluate --workdir=RUN
  python -m petseg.evaluate --workdir=RUN --split=test --checkpoint=best
  python -m petseg.evaluate --workdir=RUN --flip --scales=0.75,1,1.25

Prints a table and, as its last line, all figures as one JSON object, which is also
written to RUN/evaluation/SPLIT.json, with SPLIT_report.html and SPLIT_panel.png
beside it. Statuses: 0 done; 1 a damaged shard; 2 a wrong command, workdir or data
set.
"""

import json
from collections.abc import Sequence

from petseg.cli import command, tta_flags  # isort: skip  (quiets TensorFlow before it loads)
from absl import flags

from petseg.errors import UserError
from petseg.evaluation import scoring

_WORKDIR = flags.DEFINE_string("workdir", None, "Run folder of petseg.train.", required=True)
_SPLIT = flags.DEFINE_string("split", "validation", "Which split to score.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Data set; by default the one trained on.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "newest", "newest, best (by the run's best_metric) or a step."
)
_PANEL_IMAGES = flags.DEFINE_integer(
    "panel_images", 8, "Images in the panel, and of the worst and best ones.", lower_bound=1
)
_VIEWS = tta_flags.define()


def main(arguments: Sequence[str]) -> None:
    """Scores --split and prints the figures."""
    if arguments:
        raise UserError(f"unexpected argument '{arguments[0]}'; every option is a --flag")
    report = scoring.score_split(
        *(_WORKDIR.value, _SPLIT.value, _DATA_DIR.value, _PANEL_IMAGES.value),
        *(_CHECKPOINT.value, _VIEWS()),
    )
    print(scoring.table(report))
    print(json.dumps(report))


def run() -> None:
    """The console entry point."""
    command.run(main, ("workdir", "split", "checkpoint", "data_dir", "flip"))


if __name__ == "__main__":
    run()
