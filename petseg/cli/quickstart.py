"""From nothing to a trained model on toy pets: draws, converts, trains, evaluates, predicts.

  petseg-quickstart --dir=quickstart

Every step is a command that you can type yourself; each is printed before it runs. The same
command resumes a quickstart that was stopped. Statuses: 0 done; 1 the model is worse than it
should be; otherwise the status of the step that failed.
"""

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from petseg import paths
from petseg.cli import ending, flag_parsing, help_page, other_command, path_flags
from petseg.errors import FaultFound, UserError

_DIR = path_flags.define("dir", "quickstart", "Folder for everything that the quickstart makes.")
_EXPECTED_MEAN_IOU = 0.85
_TYPED = {"draw_toy_pets": "python -m petseg.cli.draw_toy_pets"}  # has no command of its own


def main(arguments: Sequence[str]) -> None:
    """Runs the steps; the first that fails ends the quickstart with its status."""
    flag_parsing.refuse_arguments(arguments)
    started_s = time.monotonic()
    out = Path(_DIR.value)
    raw, data, run, predictions = (out / n for n in ("raw", "data", "run", "predictions"))
    if out.exists():
        if not _is_ours(out):
            raise UserError(f"--dir: {out} holds something else; name a new folder")
        print(f"{out} exists: finished steps are kept")
    out.mkdir(parents=True, exist_ok=True)
    (out / "MADE_BY_QUICKSTART").touch()
    if not (raw / "annotations" / "list.txt").exists():
        shutil.rmtree(raw, ignore_errors=True)
        _step("draw_toy_pets", f"--output_dir={raw}")
    if not (data / "manifest.json").exists():
        _step("convert", f"--raw_dir={raw}", f"--output_dir={data}", "--name=toy_pets")
    _step("train", "--config=quickstart", f"--workdir={run}", f"--config.data.dir={data}")
    _step("evaluate", f"--workdir={run}", "--split=validation", "--nojson")
    images = sorted(str(path) for path in (raw / "images").glob("*.jpg"))[::60]
    _step("predict", f"--workdir={run}", f"--output_dir={predictions}", *images)
    _summarize(run, predictions, time.monotonic() - started_s)


def _is_ours(folder: Path) -> bool:
    return (folder / "MADE_BY_QUICKSTART").exists() or not paths.things_in(folder)


def _step(name: str, *arguments: str) -> None:
    """Runs a module of petseg.cli and prints it as the command that a user would type."""
    quiet = ["--quiet"] if flags.FLAGS.quiet else []
    line = other_command.command_line(f"petseg.cli.{name}", *arguments, *quiet)
    typed = _TYPED.get(name, f"petseg-{name}")
    print(f"\n$ {typed} {shlex.join(arguments)}", flush=True)
    # A step gets the same signals, and reports them.
    status = subprocess.run(line, check=False).returncode
    if status:
        sys.exit(status)


def _summarize(run: Path, predictions: Path, seconds: float) -> None:
    trained = json.loads((run / "evaluation" / "validation.json").read_text())
    by_step = json.loads((run / "evaluation" / "validation_by_step.json").read_text())
    tensorboard = Path(sys.executable).with_name("tensorboard")
    print(
        f"\nmean IoU of the validation split, border ignored: {trained['mean_iou']:.3f} "
        f"(untrained: {by_step['0']['mean_iou']:.3f}), after {seconds:.0f} s\n"
        f"image | truth | prediction:  {trained['panel']}\n"
        f"all metrics, worst images:   {trained['report']}\n"
        f"masks and overlays:          {predictions}\n"
        f"watch the training:          {tensorboard} --logdir {run}"
    )
    if trained["mean_iou"] < _EXPECTED_MEAN_IOU:
        raise FaultFound(f"a mean IoU of at least {_EXPECTED_MEAN_IOU} was expected")


def run() -> None:
    """The console entry point."""
    ending.end_early_interrupts_in_one_line()
    text = help_page.answer(sys.argv[1:], __doc__, ("dir",), {})
    if text is not None:
        sys.exit(ending.call(lambda _: print(text), ()))
    app.run(lambda argv: sys.exit(ending.call(main, argv[1:])), flags_parser=flag_parsing.parse)


if __name__ == "__main__":
    run()
