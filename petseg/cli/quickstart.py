"""From nothing to a trained model on toy pets: draws, converts, trains, scores, predicts.

  python tools/quickstart.py --dir=quickstart

Every step is a command that you could type; each is printed before it runs. Statuses: 0
done; that of the first step that failed; 1 the model is worse than it should be.
"""

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from petseg.cli import help_page

_DIR = flags.DEFINE_string("dir", "quickstart", "Folder for everything that is made.")
_EXPECTED_MEAN_IOU = 0.85


def main(argv: Sequence[str]) -> None:
    """Runs the steps; the first that fails ends it with that step's status."""
    del argv
    started_s = time.monotonic()
    out = Path(_DIR.value)
    raw, data, run, predictions = (out / n for n in ("raw", "data", "run", "predictions"))
    if out.exists():
        if not _is_ours(out):
            sys.exit(f"error: --dir: {out} holds something else; name a new folder")
        print(f"{out} is there already: what is finished is kept, the rest is done")
    out.mkdir(parents=True, exist_ok=True)
    (out / "MADE_BY_QUICKSTART").touch()
    if not (raw / "annotations" / "list.txt").exists():
        shutil.rmtree(raw, ignore_errors=True)
        _step("-m", "petseg.cli.draw_toy_pets", f"--output_dir={raw}")
    if not (data / "manifest.json").exists():
        _step("-m", "petseg.convert", f"--raw_dir={raw}", f"--output_dir={data}", "--name=toy_pets")
    _step(
        *("-m", "petseg.train", "--config=configs/quickstart.py"),
        *(f"--workdir={run}", f"--config.data.dir={data}"),
    )
    _step("-m", "petseg.evaluate", f"--workdir={run}", "--split=validation")
    pictures = sorted(str(path) for path in (raw / "images").glob("*.jpg"))[::60]
    _step("-m", "petseg.predict", f"--workdir={run}", f"--output_dir={predictions}", *pictures)
    _summarize(run, predictions, time.monotonic() - started_s)


def _is_ours(folder: Path) -> bool:
    return (folder / "MADE_BY_QUICKSTART").exists() or not any(folder.iterdir())


def _step(*arguments: str) -> None:
    print(f"\n$ python {shlex.join(arguments)}", flush=True)
    try:
        status = subprocess.run([sys.executable, *arguments], check=False).returncode
    except KeyboardInterrupt:  # the step was told as well, and has said so
        sys.exit(128 + signal.SIGINT)
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
        f"all figures, worst images:   {trained['report']}\n"
        f"masks and overlays:          {predictions}\n"
        f"watch the training:          {tensorboard} --logdir {run}"
    )
    if trained["mean_iou"] < _EXPECTED_MEAN_IOU:
        sys.exit(f"error: at least {_EXPECTED_MEAN_IOU} was to be expected")


def run() -> None:
    """The console entry point."""
    if help_page.wants_help(sys.argv[1:]):
        sys.exit(print(help_page.page(__doc__, ("dir",), {})))
    app.run(main)


if __name__ == "__main__":
    run()
