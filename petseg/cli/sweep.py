"""Trains one run for every combination of some settings, and compares the results.

  petseg-sweep --sweep_dir=RUNS --vary=train.loss=dice,focal --vary=train.seed=0,1,2 \\
      --config=oxford_pets_features --config.data.dir=OUT [--config.SECTION.FIELD=VALUE]

petseg-train trains each combination in RUNS/FIELD=VALUE,...; TensorBoard shows the varied
settings as hparams: tensorboard --logdir RUNS. The same command resumes a sweep that was
stopped and skips finished runs. With a feature cache in the config all runs share it. The
table at the end is that of petseg-results. Statuses: 0 done; 1 a run failed and the others
were trained; 2 a wrong command or config; 130 or 143 after a signal, with everything saved.
"""

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from petseg import recipes
from petseg.cli import command, other_command, path_flags
from petseg.config import Config
from petseg.errors import FaultFound, StoppedBySignal, UserError

_SWEEP_DIR = path_flags.define("sweep_dir", None, "Folder for the runs.", required=True)
_VARY = flags.DEFINE_multi_string(
    "vary", None, 'SECTION.FIELD=VALUE,VALUE,...; as JSON if a value has commas: ["1,1,2", "none"].'
)
config_flags.DEFINE_config_file("config", None, recipes.FLAG_HELP)
flags.mark_flags_as_required(["config", "vary"])
_STOPPED_BY_SIGNAL = (129, 130, 143)


def main(_: Sequence[str]) -> None:
    """Trains every combination that the flags name, then prints the table."""
    from petseg.cli import results, setting_flags

    given = setting_flags.config_arguments(sys.argv[1:])
    varied = dict(map(_parse, _VARY.value))
    combinations = [
        dict(zip(varied, values, strict=True)) for values in itertools.product(*varied.values())
    ]
    configs = [_check(given, combination) for combination in combinations]
    _write_hparams(configs, varied)
    failed, runs = [], []
    for number, combination in enumerate(combinations, 1):
        name = _name(combination)
        print(f"run {number} of {len(combinations)}: {name}", file=sys.stderr, flush=True)
        run = Path(_SWEEP_DIR.value) / name
        runs.append(str(run))
        train = [*given, *_flags(combination), f"--workdir={run}"]
        train += ["--quiet"] if flags.FLAGS.quiet else []
        line = other_command.command_line("petseg.cli.train", *train)
        status = subprocess.run(line, check=False).returncode
        if status in _STOPPED_BY_SIGNAL:
            raise StoppedBySignal(status - 128, f"in {name}, saved; the same command resumes it")
        if status:
            failed.append(name)
    print(results.table([run for run in runs if Path(run).name not in failed]))
    if failed:
        raise FaultFound(f"{len(failed)} of {len(runs)} runs failed: {'; '.join(failed)}")


def _write_hparams(configs: Sequence[Config], varied: Sequence[str]) -> None:
    """Writes the columns of TensorBoard's table of hparams: first what was varied."""
    from petseg import config_rules
    from petseg.data import label_map, manifest
    from petseg.training import run_summary, tensorboard

    columns = {name: None for config in configs for name in run_summary.hparam_columns(config)}
    fields = {field.partition("[")[0]: None for field in varied}
    known = [field for field in fields if field in run_summary.hparams(configs[0])]
    found = manifest.read_manifest(config_rules.data_dir(configs[0]))
    classes = label_map.choose_label_map(configs[0].data.label_map, found)
    tensorboard.write_sweep(_SWEEP_DIR.value, known, list(columns), classes.names)


def _parse(text: str) -> tuple[str, list[str]]:
    """Splits 'train.loss=dice,focal' into its field and its values."""
    field, equals, values = text.partition("=")
    if not (equals and re.fullmatch(r"\w+(\.\w+|\[\d+\])+", field)):
        raise UserError(f"--vary={text} must be SECTION.FIELD=VALUE,VALUE,...")
    if not values.startswith("["):
        return field, values.split(",")
    try:
        return field, [str(value) for value in json.loads(values)]
    except ValueError as error:
        raise UserError(f"--vary={text}: after = is no JSON list: {error}") from error


def _flags(combination: dict[str, str]) -> list[str]:
    return [f"--config.{field}={value}" for field, value in combination.items()]


def _check(given: Sequence[str], combination: dict[str, str]) -> Config:
    """Parses and validates the settings of one combination, before any run starts."""
    from petseg import config_rules
    from petseg.cli import setting_flags

    setting_flags.refuse_unknown(_flags(combination))
    line = ["sweep", *recipes.resolve_arguments(given), *_flags(combination)]
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=line)
    try:
        values(line)
    # ml_collections reports a wrong type in several ways.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--vary, {_name(combination)}: {reason}") from error
    config_rules.validate(holder.value)
    return holder.value


def _name(combination: dict[str, str]) -> str:
    """The folder's name: 'loss=dice,seed=1'; with sections where two fields end alike."""
    last = [field.rpartition(".")[2] for field in combination]
    fields = last if len(set(last)) == len(last) else list(combination)
    name = ",".join(f"{f}={v}" for f, v in zip(fields, combination.values(), strict=True))
    return re.sub(r"[^\w=.,+*-]", "_", name)


def run() -> None:
    """The console entry point."""
    command.run(main, ("sweep_dir", "vary", "config"))


if __name__ == "__main__":
    run()
