"""Trains the same run with every combination of some settings, and compares what came out.

  python tools/sweep.py --sweep_dir=RUNS --vary=model.head=fcn8s,wide --vary=train.seed=0,1,2 \\
      --config=configs/oxford_pets_features.py --config.data.dir=OUT [--config.ROOM.FIELD=VALUE]

Each combination is a run of petseg.train in RUNS/FIELD=VALUE,...; the settings' names and
values are TensorBoard's hparams: tensorboard --logdir RUNS. The same command goes on where it
was stopped, and leaves alone what is finished. With a feature cache in the config all runs
read one. The table at the end is that of tools/results.py. Statuses: 0 done; 1 a run failed,
the others went on; 2 a wrong command or config; 130 or 143 after a signal, saved.
"""

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from petseg.cli import command  # isort: skip  (quiets TensorFlow before it loads)
from absl import flags
from ml_collections import config_flags

from petseg import config as config_lib
from petseg.cli import results
from petseg.config import Config
from petseg.data import label_map
from petseg.errors import FaultFound, StoppedBySignal, UserError
from petseg.training import about_run, summaries

_SWEEP_DIR = flags.DEFINE_string("sweep_dir", None, "Folder for the runs.", required=True)
_VARY = flags.DEFINE_multi_string(
    "vary", None, 'ROOM.FIELD=VALUE,VALUE,...; values with commas as JSON: ["1,1,2", "none"].'
)
config_flags.DEFINE_config_file("config", None, "A file of configs/, as of petseg.train.")
flags.mark_flags_as_required(["config", "vary"])
_SIGNALLED = (130, 143)


def main(arguments: Sequence[str]) -> None:
    """Runs what the flags name."""
    if arguments:
        raise UserError(f"unexpected argument '{arguments[0]}'; every option is a --flag")
    given = [a for a in sys.argv[1:] if re.match("--?config[.=]", a)]
    varied = dict(map(_parse, _VARY.value))
    combinations = [
        dict(zip(varied, values, strict=True)) for values in itertools.product(*varied.values())
    ]
    configs = [_check(given, combination) for combination in combinations]
    _tell_columns(configs, varied)
    failed, runs = [], []
    for number, combination in enumerate(combinations, 1):
        name = _name(combination)
        print(f"run {number} of {len(combinations)}: {name}", file=sys.stderr, flush=True)
        run = Path(_SWEEP_DIR.value) / name
        runs.append(str(run))
        command = ["-m", "petseg.train", *given, *_flags(combination), f"--workdir={run}"]
        status = subprocess.run([sys.executable, *command], check=False).returncode
        if status in _SIGNALLED:
            raise StoppedBySignal(status - 128, f"in {name}, saved; the same command goes on")
        if status:
            failed.append(name)
    print(results.table([run for run, name in zip(runs, map(_name, combinations), strict=True)
                         if name not in failed]))  # fmt: skip
    if failed:
        raise FaultFound(f"{len(failed)} of {len(runs)} runs failed: {'; '.join(failed)}")


def _tell_columns(configs: Sequence[Config], varied: Sequence[str]) -> None:
    """TensorBoard's table of hparams begins with what was varied."""
    compared = {name: None for config in configs for name in about_run.compared(config)}
    fields = {field.partition("[")[0]: None for field in varied}
    known = [field for field in fields if field in about_run.hparams(configs[0])]
    classes = label_map.parse_label_map(configs[0].data.label_map)
    summaries.write_sweep(_SWEEP_DIR.value, known, list(compared), classes.names)


def _parse(text: str) -> tuple[str, list[str]]:
    """'model.head=fcn8s,wide' -> its field and values."""
    field, equals, values = text.partition("=")
    if not (equals and re.fullmatch(r"\w+(\.\w+|\[\d+\])+", field)):
        raise UserError(f"--vary={text} must be ROOM.FIELD=VALUE,VALUE,...")
    if not values.startswith("["):
        return field, values.split(",")
    try:
        return field, [str(value) for value in json.loads(values)]
    except ValueError as error:
        raise UserError(f"--vary={text}: after = stands no JSON list: {error}") from error


def _flags(combination: dict[str, str]) -> list[str]:
    return [f"--config.{field}={value}" for field, value in combination.items()]


def _check(given: Sequence[str], combination: dict[str, str]) -> Config:
    """Parses and validates one combination's settings, before any run begins."""
    values, line = flags.FlagValues(), ["sweep", *given, *_flags(combination)]
    holder = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=line)
    try:
        values(line)
    # ml_collections reports an unknown field or a wrong type in several ways.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--vary, {_name(combination)}: {reason}") from error
    config_lib.validate(holder.value)
    return holder.value


def _name(combination: dict[str, str]) -> str:
    """A folder's name: 'head=wide,seed=1'; whole fields where their last parts are alike."""
    last = [field.rpartition(".")[2] for field in combination]
    fields = last if len(set(last)) == len(last) else list(combination)
    name = ",".join(f"{f}={v}" for f, v in zip(fields, combination.values(), strict=True))
    return re.sub(r"[^\w=.,+*-]", "_", name)


def run() -> None:
    """The console entry point."""
    command.run(main, ("sweep_dir", "vary", "config"))


if __name__ == "__main__":
    run()
