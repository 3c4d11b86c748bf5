"""Measures the speed of petseg beside its limits and other implementations.

  petseg-benchmark --stage=convert [--raw_dir=DIR] [--pairs=7000] [--rounds=5]
  petseg-benchmark --stage=input [--data_dir=OUT] [--smaller_data_dir=OUT256]
  petseg-benchmark --stage=train [--data_dir=OUT] [--weights=FILE] [--steps=16]
      [--batch_size=16] [--feature_cache_dir=DIR] [--encoder=vgg16] [--decoder=fcn8s]
  petseg-benchmark --stage=scaling [--data_dir=OUT] [--replicas=1,2,4]
  petseg-benchmark --stage=export --workdir=RUN
  petseg-benchmark --stage=bottleneck --config=oxford_pets --config.data.dir=OUT

Each round runs every candidate once, in its own process, so that other load on the machine
affects all candidates alike. Prints one JSON object a line: `value` is the median over the
rounds, with `min` and `max`; a ratio is the median of the ratios in each round. Without
data, toy pets are drawn. --stage=bottleneck also explains on standard error what limits
training with these settings. Statuses: 0 done; 1 a candidate failed; 2 a wrong command,
config or folder.
"""

import dataclasses
import functools
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from petseg import recipes
from petseg.cli import command, other_command, path_flags
from petseg.cores import usable_cores
from petseg.errors import UserError

_STAGES = ("convert", "input", "train", "scaling", "export", "bottleneck")
_STAGE = flags.DEFINE_string(
    "stage", None, f"What to measure: {', '.join(_STAGES)}.", required=True
)
_RAW_DIR = path_flags.define(
    "raw_dir", None, "convert: pairs in the official pets layout; default: toy pets."
)
_PAIRS = flags.DEFINE_integer(
    "pairs", 7000, "convert: how many pairs; those of raw_dir are repeated.", lower_bound=1
)
_WORKERS = flags.DEFINE_list(
    "workers", None, "convert: numbers of workers; default: 1 and the cores."
)
_DATA_DIR = path_flags.define(
    "data_dir", None, "input, train, scaling: a data set; default: toy pets."
)
_SMALLER_DATA_DIR = path_flags.define(
    "smaller_data_dir", None, "input: the same data set, converted with --short_side=256."
)
_RECORDS = flags.DEFINE_integer(
    "records", 7000, "input: records that each candidate reads a round.", lower_bound=1
)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "How often every candidate runs.", lower_bound=1)
_ONLY = flags.DEFINE_list("only", [], "Names of the candidates to run; default: all.")
_SCRATCH_DIR = path_flags.define(
    "scratch_dir", None, "Folder for temporary files; default: the system's."
)
_WEIGHTS = path_flags.define(
    "weights", "none", "train, scaling: the encoder's; none is random ones."
)
_ENCODER = flags.DEFINE_string("encoder", "vgg16", "train: the encoder, as in config.model.")
_DECODER = flags.DEFINE_string("decoder", "fcn8s", "train: the decoder, as in config.model.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "train: the global batch.", lower_bound=1)
_FEATURE_CACHE_DIR = path_flags.define(
    "feature_cache_dir", None, "train: also measure steps on features cached in this folder."
)
_STEPS = flags.DEFINE_integer(
    "steps", 16, "train, scaling, export: steps that each candidate takes a round.", lower_bound=4
)
_REPLICAS = flags.DEFINE_list(
    "replicas", ["1", "2"], "scaling: numbers of replicas, starting with 1."
)
_CONFIG = config_flags.DEFINE_config_file("config", None, f"bottleneck: {recipes.FLAG_HELP}")
_WORKDIR = path_flags.define("workdir", None, "export: a run of petseg-train.")
_SECONDS = flags.DEFINE_float(
    "seconds", 5.0, "bottleneck: how long each stage is measured.", lower_bound=0.1
)


def main(_: Sequence[str]) -> None:
    """Runs the benchmark that --stage names."""
    if _STAGE.value == "doctor":
        raise UserError("--stage=doctor is now --stage=bottleneck")
    if _STAGE.value not in _STAGES:
        raise UserError(f"--stage={_STAGE.value} is not one of {', '.join(_STAGES)}")
    from petseg.input_pipeline.verified_shards import faults_in_one_line

    with faults_in_one_line():
        _measure()


def _measure() -> None:
    if _STAGE.value == "bottleneck":
        _measure_bottleneck()
        return
    with tempfile.TemporaryDirectory(dir=_SCRATCH_DIR.value) as scratch:
        if _STAGE.value == "convert":
            _measure_conversion(Path(scratch))
        elif _STAGE.value == "input":
            _measure_input(_data_dir(Path(scratch)), Path(scratch))
        elif _STAGE.value == "export":
            _measure_export(Path(scratch))
        elif _STAGE.value == "train":
            _measure_training(_data_dir(Path(scratch)))
        else:
            _measure_scaling(_data_dir(Path(scratch)))


def _measure_conversion(scratch: Path) -> None:
    from petseg.benchmark import conversion

    counts = sorted({int(count) for count in _WORKERS.value or (1, usable_cores())})
    conversion.benchmark(
        Path(_RAW_DIR.value) if _RAW_DIR.value else _draw_toy_pets(scratch),
        scratch,
        pairs=_PAIRS.value,
        rounds=_ROUNDS.value,
        workers=counts,
        only=_ONLY.value,
    )


def _data_dir(scratch: Path) -> str:
    """The data set that --data_dir names, or toy pets."""
    if _DATA_DIR.value:
        return _DATA_DIR.value
    data_dir = str(scratch / "converted")
    _run_module(
        "petseg.cli.convert",
        "--source=oxford_iiit_pet",
        f"--raw_dir={_draw_toy_pets(scratch)}",
        f"--output_dir={data_dir}",
    )
    return data_dir


def _measure_training(data_dir: str) -> None:
    from petseg.benchmark import training

    training.benchmark_train(
        data_dir,
        _WEIGHTS.value,
        steps=_STEPS.value,
        rounds=_ROUNDS.value,
        only=_ONLY.value,
        batch_size=_BATCH_SIZE.value,
        feature_cache_dir=_FEATURE_CACHE_DIR.value,
        encoder=_ENCODER.value,
        decoder=_DECODER.value,
    )


def _measure_scaling(data_dir: str) -> None:
    from petseg.benchmark import training

    training.benchmark_scaling(
        data_dir,
        _WEIGHTS.value,
        steps=_STEPS.value,
        rounds=_ROUNDS.value,
        replicas=[int(count) for count in _REPLICAS.value],
    )


def _measure_export(scratch: Path) -> None:
    if not _WORKDIR.value:
        raise UserError("--stage=export needs --workdir=RUN, a run of petseg-train")
    from petseg.benchmark import exporting

    exporting.benchmark(
        _WORKDIR.value,
        scratch,
        images=_STEPS.value,
        rounds=_ROUNDS.value,
        only=_ONLY.value,
    )


def _measure_input(data_dir: str, scratch: Path) -> None:
    from petseg.benchmark import input as input_benchmark

    input_benchmark.benchmark(
        data_dir,
        _SMALLER_DATA_DIR.value,
        functools.partial(_make_raw, scratch),
        records=_RECORDS.value,
        rounds=_ROUNDS.value,
        only=_ONLY.value,
    )


def _make_raw(scratch: Path, data_dir: str) -> str:
    """Converts a data set to one that holds the same pictures decoded."""
    raw_dir = tempfile.mkdtemp(dir=scratch)
    _run_module(
        "petseg.cli.convert",
        "--source=tfrecord",
        f"--raw_dir={data_dir}",
        f"--output_dir={raw_dir}",
        "--store=raw",
        "--accept_losses",
    )
    return raw_dir


def _measure_bottleneck() -> None:
    if not _CONFIG.value:
        raise UserError("--stage=bottleneck needs --config=NAME and --config.data.dir=OUT")
    from petseg.benchmark import measuring
    from petseg.training import bottleneck

    figures, diagnosis = bottleneck.examine(_CONFIG.value, _SECONDS.value)
    print(diagnosis.text(), file=sys.stderr)
    for name in ("read", "decode", "input", "model"):
        measuring.print_line("bottleneck", name, [getattr(figures, name)], "images/s")
    measuring.print_line(
        "bottleneck",
        "input/model",
        [figures.input / figures.model],
        "ratio",
        verdict=diagnosis.verdict,
        advice=diagnosis.advice,
        **{
            key: value
            for key, value in dataclasses.asdict(figures).items()
            if key in ("cores", "has_gpu", "image_size", "short_side")
        },
    )


def _draw_toy_pets(scratch: Path) -> Path:
    _run_module("petseg.cli.draw_toy_pets", f"--output_dir={scratch / 'toy'}")
    return scratch / "toy"


def _run_module(name: str, *arguments: str) -> None:
    """Runs another command; what it prints goes to standard error."""
    subprocess.run(
        other_command.command_line(name, *arguments),
        check=True,
        stdout=sys.stderr,
    )


def run() -> None:
    """The console entry point."""
    command.run(main, ("stage", "data_dir", "raw_dir", "rounds", "only"))


if __name__ == "__main__":
    run()
