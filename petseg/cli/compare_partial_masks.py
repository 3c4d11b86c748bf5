"""Compares ways to segment classes of which no mask is seen, by the masks of other classes.

  python -m petseg.cli.compare_partial_masks --experiment_dir=DIR \\
      --config=oxford_pets_partial_masks --config.data.dir=OUT [--config.SECTION.FIELD=VALUE]

Trains, in DIR, a run for each arm, division of the images' classes into some with masks and some
without, and seed; then judges each on the validation images of the classes without. The arms:

  agnostic       one decoder for all classes
  transfer       mask weights follow from those that tell an image's class and its box
  summed         both
  box_filled     agnostic, and the filled boxes of the classes without masks are trained on, too
  oracle         agnostic, but with the masks of all classes
  crops          agnostic, on the objects cut out by their boxes
  crops_oracle   the same with the masks of all classes

A box is the tight box around the mask. Where the encoder stays frozen, all runs share a cache of
features. Prints one JSON object a line for every arm and kind of division: means over divisions
and seeds, with their standard deviations, and gap_closed, (figure - agnostic) / (oracle -
agnostic). The same command resumes an interrupted comparison and skips finished runs. Statuses: 0
done; 1 a run failed; 2 a wrong command, config or data set; 130 or 143 after a signal.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags
from ml_collections import config_flags

from petseg import recipes
from petseg.cli import command, other_command, path_flags
from petseg.errors import FaultFound, StoppedBySignal, UserError

if TYPE_CHECKING:
    from petseg.benchmark.partial_masks import Judged

_EXPERIMENT_DIR = path_flags.define(
    "experiment_dir", None, "Folder for the runs and their figures.", required=True
)
_ARMS = flags.DEFINE_list("arms", None, "Names of the arms to compare; default: all.")
_MASKS_OF = flags.DEFINE_multi_string(
    "masks_of",
    [],
    "A division: the classes with masks, as in species=dog; may be given several times.",
)
_RANDOM_HALVES = flags.DEFINE_integer(
    "random_halves", 5, "Divisions into random halves.", lower_bound=0
)
_GROWING = flags.DEFINE_list(
    "growing", [], "Numbers of classes with masks, all judged on the same others: 1,2,5,10,20."
)
_GROWING_ARMS = flags.DEFINE_list(
    "growing_arms", ["agnostic", "transfer", "summed", "oracle"], "The arms of --growing."
)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of each run.")
config_flags.DEFINE_config_file("config", None, recipes.FLAG_HELP)
flags.mark_flag_as_required("config")
_STOPPED_BY_SIGNAL = (129, 130, 143)


def main(_: Sequence[str]) -> None:
    """Trains and judges every run that is wanted, then prints the comparison."""
    from petseg import config_rules
    from petseg.benchmark import partial_masks
    from petseg.cli import setting_flags
    from petseg.data import image_classes, manifest

    config = flags.FLAGS.config
    for name in [*(_ARMS.value or []), *_GROWING_ARMS.value]:
        if name not in partial_masks.ARMS:
            raise UserError(f"no arm is called '{name}'; there are {', '.join(partial_masks.ARMS)}")
    if config.data.masks_of:
        raise UserError("config.data.masks_of must be ''; the divisions are --masks_of's")
    config.train.loss, config.model.class_masks = partial_masks.LOSS, "shared"
    config_rules.validate(config)
    data_dir = config_rules.data_dir(config)
    names = image_classes.read_class_names(data_dir)
    source = str(manifest.read_manifest(data_dir).source.get("source", ""))
    kinds = _divisions(names, source)
    experiment, figures = Path(_EXPERIMENT_DIR.value), []
    experiment.mkdir(parents=True, exist_ok=True)
    wanted = [
        (kind, division, arm, seed)
        for seed in _SEEDS.value
        for kind, (divisions, arms) in kinds.items()
        for division in divisions
        for arm in arms
    ]
    crops_dir = str(experiment / "crops")
    if any(partial_masks.ARMS[arm].is_cropped for _, _, arm, _ in wanted):
        _convert_crops(data_dir, crops_dir, names)
    for number, (kind, division, arm_name, seed) in enumerate(wanted, 1):
        arm = partial_masks.ARMS[arm_name]
        where = "all" if arm.sees_all else division.name
        run = experiment / "runs" / f"{where},{arm_name},seed={seed}"
        print(f"run {number} of {len(wanted)}: {run.name}", file=sys.stderr, flush=True)
        settings = {
            **arm.settings,
            "train.loss": partial_masks.LOSS,
            "train.seed": seed,
            "data.masks_of": "" if arm.sees_all else division.masks_of(names),
            "data.dir": crops_dir if arm.is_cropped else data_dir,
        }
        if config.train.trainable == "decoder" and not config.train.stages:
            folder = "features_of_crops" if arm.is_cropped else "features"
            settings["data.feature_cache_dir"] = str(experiment / folder)
        given = setting_flags.config_arguments(sys.argv[1:])
        judged = _trained_and_judged(run, given, settings)
        of_run = {
            **judged.figures(division.judged),
            "mean_iou_with_masks": judged.figures(division.with_masks)["mean_iou"],
        }
        figures.append(
            {"kind": kind, "division": division.name, "arm": arm_name, "seed": seed, **of_run}
        )
        lines = "".join(json.dumps(one) + "\n" for one in figures)
        (experiment / "figures.jsonl").write_text(lines)
    for row in summarise(figures):
        print(json.dumps(row))


def _divisions(names: Sequence[str], source: str) -> dict[str, tuple[list, list[str]]]:
    """By kind: the divisions, and the arms that are compared on them."""
    from petseg.benchmark import partial_masks
    from petseg.benchmark.partial_masks import Division
    from petseg.data import image_classes

    arms, every = _ARMS.value or list(partial_masks.ARMS), range(len(names))
    kinds: dict[str, tuple[list, list[str]]] = {}
    for text in _MASKS_OF.value:
        chosen = image_classes.choose_classes(text, names, source)
        division = Division(
            re.sub(r"[^\w=]", "_", text),
            tuple(i for i in every if chosen[i]),
            tuple(i for i in every if not chosen[i]),
        )
        kinds[text] = ([division], arms)
    if _RANDOM_HALVES.value:
        halves = partial_masks.random_halves(_RANDOM_HALVES.value, len(names), 0)
        kinds["random halves"] = (halves, arms)
    counts = [int(text) if text.isdigit() else 0 for text in _GROWING.value]
    if counts:
        if not all(0 < count < len(names) for count in counts):
            raise UserError(
                f"--growing={','.join(_GROWING.value)} must be numbers from 1 to {len(names) - 1}"
            )
        for division in partial_masks.growing(counts, len(names), 0):
            kinds[f"{len(division.with_masks)} with masks"] = ([division], _GROWING_ARMS.value)
    return kinds


def _train(run: Path, given: Sequence[str], settings: Mapping[str, str]) -> None:
    """Trains a run unless it is finished.

    Raises:
      FaultFound: It failed.
      StoppedBySignal: It was stopped.
    """
    line = other_command.command_line(
        "petseg.cli.train",
        *given,
        *(f"--config.{name}={value}" for name, value in settings.items()),
        f"--workdir={run}",
        "--quiet",
    )
    status = subprocess.run(line, check=False).returncode
    if status in _STOPPED_BY_SIGNAL:
        raise StoppedBySignal(status - 128, f"in {run}, saved; the same command resumes it")
    if status:
        raise FaultFound(f"{run} failed; see above")


def _trained_and_judged(run: Path, given: Sequence[str], settings: Mapping[str, str]) -> "Judged":
    """What a run predicts; of a finished run that was kept beside it."""
    from petseg.benchmark import partial_masks
    from petseg.run_dir.trained_model import load_trained_model

    kept = run.with_name(f"{run.name}.npz")
    if kept.exists():
        return partial_masks.read_judged(kept)
    _train(run, given, settings)
    judged = partial_masks.judge(load_trained_model(str(run)), settings["data.dir"])
    partial_masks.write_judged(judged, kept)
    return judged


def _convert_crops(data_dir: str, crops_dir: str, names: Sequence[str]) -> None:
    """Converts the objects of a data set, cut out by their boxes, unless that was done."""
    from petseg.benchmark import object_crops
    from petseg.data import manifest

    if (Path(crops_dir) / manifest.FILE_NAME).exists():
        return
    raw_dir = f"{crops_dir}_raw"
    object_crops.write_crops(data_dir, raw_dir, names)
    line = other_command.command_line(
        "petseg.cli.convert", f"--raw_dir={raw_dir}", f"--output_dir={crops_dir}", "--quiet",
        "--accept_losses",
    )  # fmt: skip
    if subprocess.run(line, check=False, stdout=subprocess.DEVNULL).returncode:
        raise FaultFound(f"{raw_dir} could not be converted; see above")


def summarise(figures: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Means and standard deviations of each kind of division and arm, and the gap closed.

    Args:
      figures: Of each run: kind, division, arm, seed, and numbers.
    """
    from petseg.benchmark import partial_masks

    rows = []
    by_run = {(one["kind"], one["division"], one["arm"], one["seed"]): one for one in figures}
    keys = dict.fromkeys((one["kind"], one["arm"]) for one in figures)
    for kind, arm in keys:
        chosen = [one for one in figures if (one["kind"], one["arm"]) == (kind, arm)]
        row: dict[str, object] = {"kind": kind, "arm": arm, "runs": len(chosen)}
        for name in [n for n, value in chosen[0].items() if isinstance(value, float)]:
            values = np.array([one[name] for one in chosen])
            row[name] = round(float(values.mean()), 4)
            row[f"{name}_sd"] = round(float(values.std()), 4)
        is_cropped = partial_masks.ARMS[arm].is_cropped
        low, high, measure = partial_masks.AGNOSTIC, partial_masks.ORACLE, "image_mean_iou"
        if is_cropped:  # judged within boxes alone, as those of whole images can be, too
            measure = "image_mean_iou_in_box"
        gaps = []
        for one in chosen:
            ends = [by_run.get((kind, one["division"], end, one["seed"])) for end in (low, high)]
            if all(ends):
                agnostic, oracle = (end[measure] for end in ends)
                gaps.append(partial_masks.gap_closed(one[measure], agnostic, oracle))
        if gaps:
            row["gap_closed"] = round(float(np.mean(gaps)), 3)
            row["gap_closed_sd"] = round(float(np.std(gaps)), 3)
        rows.append(row)
    return rows


def run() -> None:
    """The command."""
    command.run(main, ("experiment_dir", "masks_of", "arms", "seeds", "config"))


if __name__ == "__main__":
    run()
