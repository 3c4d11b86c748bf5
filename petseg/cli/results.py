"""Prints a table of the results of runs, from the JSON files that they wrote.

  petseg-results RUN... [--reach_mean_iou=0.72] [--curves=FILE.png]

Runs whose settings differ only in the seed are one row, with mean and range; so are runs
that start from the weights of such runs. The mean IoU is that of RUN/evaluation/validation.json
if petseg-evaluate evaluated the newest checkpoint, else that of the last evaluation during
training. Seconds are training time including the computation of features, without start-up.
Prints Markdown; --curves also draws the learning curves. Statuses: 0 done; 2 a wrong command,
or a folder that is no evaluated run.
"""

import contextlib
import dataclasses
import math
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from petseg.cli import command, path_flags
from petseg.config import Config
from petseg.errors import UserError
from petseg.image_size import readable

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

_REACH = flags.DEFINE_float(
    "reach_mean_iou", None, "Also print after how many seconds an evaluation reached this."
)
_CURVES = path_flags.define(
    "curves", None, "PNG or SVG file to draw: mean IoU of each run over minutes of training."
)
_SEED = "config.train.seed"
# The result does not depend on these names.
_SHOWN_AS = {
    "config.data.feature_cache_dir": "DIR",
    "config.model.start_from": "RUN",
    "config.train.teacher": "RUN",
}
_HEADER = ("settings", "runs", "mean IoU", "seconds", "parameters")


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of one run.

    Attributes:
      settings: flags that differ from the defaults, without paths and seed.
      start: settings of the run whose weights it started from, and so on; '' if there is none.
      mean_iou: mean IoU of the validation split.
      seconds: training time; None if the run did not record it.
      reached_s: seconds until --reach_mean_iou was reached; None if it never was.
      parameters: number of the model's parameters.
      trained: number of those that are trained, in the stage that trains most.
    """

    settings: str
    start: str
    mean_iou: float
    seconds: float | None
    reached_s: float | None
    parameters: int
    trained: int


def check(arguments: Sequence[str]) -> None:
    """Refuses a wrong command before TensorFlow is loaded."""
    if not _runs(arguments):
        raise UserError("name at least one run: petseg-results RUN...")
    if _CURVES.value and Path(_CURVES.value).suffix not in (".png", ".svg"):
        raise UserError(f"--curves={_CURVES.value} must end in .png or .svg")


def main(arguments: Sequence[str]) -> None:
    """Prints the table of the runs on the command line."""
    runs = _runs(arguments)
    print(table(runs, _REACH.value))
    if _CURVES.value:
        _save(curves(runs), _CURVES.value)


def _runs(arguments: Sequence[str]) -> list[str]:
    # RUNS/* of a sweep includes TensorBoard's file.
    return [path for path in arguments if not Path(path).is_file()]


def table(runs: Sequence[str], reach: float | None = None) -> str:
    """Makes a Markdown table with a row for each group of runs that differ only in the seed.

    Args:
      runs: run folders.
      reach: also give the seconds until this mean IoU was reached; None leaves that out.

    Raises:
      UserError: a folder is no run, or has no evaluation.
    """
    groups: dict[tuple[str, str], list[Result]] = {}
    for run in runs:
        result = read_result(run, reach)
        groups.setdefault((result.settings, result.start), []).append(result)
    ordered = sorted(groups.values(), key=lambda g: -statistics.mean(r.mean_iou for r in g))
    header = [*_HEADER, *([f"seconds to {reach:g}"] if reach else [])]
    rows = [header, ["---"] * len(header), *(_row(group, reach) for group in ordered)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def curves(runs: Sequence[str]) -> "Figure":
    """Draws the mean IoU of every evaluation over minutes of training.

    Args:
      runs: run folders; evaluations without a recorded time are left out.
    """
    from petseg.run_dir import evaluations
    from petseg.visualization import charts

    names, lines = [Path(run).name for run in runs], {}
    for run, name in zip(runs, names, strict=True):
        by_step, seconds = evaluations.read_evaluations(run), evaluations.read_seconds(run)
        timed = sorted(step for step in by_step if step in seconds)
        label = name if names.count(name) == 1 else str(run)
        lines[label] = {seconds[step] / 60: by_step[step]["mean_iou"] for step in timed}
    return charts.curves(lines, "minutes of training", "validation mean IoU")


def read_result(run: str, reach: float | None) -> Result:
    """Reads one run; raises UserError if it is no run or has no evaluation."""
    from petseg.run_dir import checkpoints, evaluations, run_folder

    config, by_step = run_folder.read_config(run), evaluations.read_evaluations(run)
    seconds = evaluations.read_seconds(run)
    if not by_step:
        raise UserError(f"{run}: there is no evaluation yet")
    last = max(by_step)
    newest = checkpoints.newest_step(run)
    newest = last if newest is None else newest  # checkpoints may have been deleted
    evaluated = evaluations.evaluations_of(run, newest).get("validation", {})
    parameters, trained = _count_parameters(config)
    reached = [
        seconds[step]
        for step, report in by_step.items()
        if reach and step in seconds and (report["mean_iou"] or 0) >= reach
    ]
    return Result(
        shlex.join(_settings(run, config)) or "(the defaults)",
        _started(config),
        evaluated.get("mean_iou") or by_step[last]["mean_iou"] or 0.0,
        seconds.get(last),
        min(reached, default=None),
        parameters,
        trained,
    )


def _save(figure: "Figure", file: str) -> None:
    try:
        Path(file).absolute().parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file)
    except OSError as error:
        raise UserError(f"--curves={file}: {error.strerror}") from error


def _row(group: Sequence[Result], reach: float | None) -> list[str]:
    first = group[0]
    reached = [r.reached_s for r in group if r.reached_s is not None]
    cells = [
        f"`{first.settings}`",
        str(len(group)),
        _spread([r.mean_iou for r in group], 4),
        _spread([r.seconds for r in group if r.seconds is not None], 0),
        f"{first.parameters:,} ({first.trained:,} trained)",
    ]
    return [*cells, _spread(reached, 0)] if reach else cells


def _spread(values: Sequence[float], digits: int) -> str:
    """The mean, with minimum and maximum if there are several values."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):,.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def _settings(run: str, config: Config) -> list[str]:
    """The flags that turn the default config into this one, those that move no weight left out."""
    from petseg import config_json, config_rules
    from petseg.data import manifest
    from petseg.data.label_map import own_label_map
    from petseg.setting import Hparam

    usual = config_json.spell_out(Config())
    with contextlib.suppress(UserError):  # a data set that names no classes
        usual.data.label_map = own_label_map(manifest.read_manifest(run)).spec()
    return [
        f"{name.removeprefix('config.')}={_shown(name, value)}"
        for name, (_, value) in sorted(config_rules.differences(usual, config).items())
        if name != _SEED and config_rules.find_rules(name).hparam != Hparam.NEVER
    ]


def _started(config: Config) -> str:
    """Settings of the run that this one starts from, and so on; its path if it is missing."""
    start = config.model.start_from
    if not start or not Path(start).is_dir():
        return start
    from petseg.run_dir import run_folder

    before = run_folder.read_config(start)
    return shlex.join([*_settings(start, before), _started(before)])


def _shown(name: str, value: object) -> str:
    if name in _SHOWN_AS:
        return _SHOWN_AS[name]
    from petseg import config_rules

    rules = config_rules.find_rules(name)
    if rules.is_path:
        return Path(str(value)).name
    if rules.is_size:
        return str(readable(value))
    if isinstance(value, list):
        return " ".join(f"{s.trainable}:{s.epochs:g}:{s.learning_rate:g}" for s in value)
    return str(value)


def _count_parameters(config: Config) -> tuple[int, int]:
    from petseg.data.label_map import parse_label_map
    from petseg.run_dir.trained_model import build_untrained

    classes = parse_label_map(config.data.label_map).num_classes
    model = build_untrained(config, classes, config.data.image_size)
    trained = [model.trainable_weights(stage.trainable) for stage in config.stages()]
    return _count(model.variables), max(map(_count, trained))


def _count(variables: "Sequence[keras.Variable]") -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def run() -> None:
    """The console entry point."""
    command.run(main, ("reach_mean_iou", "curves"), check=check)


if __name__ == "__main__":
    run()
