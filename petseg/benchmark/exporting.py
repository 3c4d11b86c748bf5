"""Measures exported models: size, agreement, and latency of one image on this machine."""

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from petseg.benchmark import measuring
from petseg.benchmark.measuring import Candidate
from petseg.exporting import export_model, formats
from petseg.image_size import ImageSize, sides_of
from petseg.inference.predictor import make_predictor
from petseg.inference.tta import TtaOptions
from petseg.run_dir import trained_model

_TRAINED = "trained"
_UNMEASURED = 3


def benchmark(
    run_dir: str, scratch: Path, *, images: int, rounds: int, only: Sequence[str]
) -> None:
    """Prints size, agreement and latency of each export format and of the trained model.

    Args:
      run_dir: a run of petseg-train.
      scratch: folder for the exported models.
      images: number of images that each candidate segments a round, one by one.
      rounds: how often every candidate runs.
      only: names of formats; empty for all.
    """
    names = [name for name in formats.FORMATS if not only or name in only]
    cards = {
        name: export_model.export_model(
            run_dir, export_model.ExportOptions(str(scratch / name), name)
        )
        for name in names
    }
    candidates = [Candidate(_TRAINED, functools.partial(run_trained, run_dir, images), 0)]
    for name in names:
        path = scratch / name / formats.FORMATS[name].file
        run = functools.partial(run_format, name, path, cards[name]["image_size"], images)
        candidates.append(Candidate(name, run, 0))
    results = measuring.run_rounds(candidates, rounds, "images/s")
    for (name, _), measured in results.items():
        more = {}
        if name in cards:
            size_bytes = sum(of["bytes"] for of in cards[name]["files"].values())
            more = {"bytes": size_bytes, "agreement": cards[name]["agreement"]}
        latencies = [1000 / run.speed for run in measured]
        measuring.print_line("export", name, latencies, "ms", images=images, **more)
    for name in names:
        measuring.print_ratio("export", results, name, _TRAINED)


def run_trained(run_dir: str, images: int) -> float:
    """Images per second of the trained model as petseg-predict runs it, one by one."""
    trained = trained_model.load_trained_model(run_dir)
    predictor = make_predictor(trained, TtaOptions(), 1)

    def predict(pixels: np.ndarray) -> object:
        return next(predictor.predict_views(pixels))

    return _speed(predict, trained.config.data.image_size, images)


def run_format(name: str, path: Path, image_size: ImageSize, images: int) -> float:
    """Images per second of an exported model, one by one."""
    return _speed(formats.load(name, path), image_size, images)


def _speed(segment: Callable[[np.ndarray], object], image_size: ImageSize, images: int) -> float:
    shape = (1, *sides_of(image_size), 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    seconds = []
    for _ in range(_UNMEASURED + images):
        started_s = time.perf_counter()
        segment(pixels)
        seconds.append(time.perf_counter() - started_s)
    return 1 / statistics.median(seconds[_UNMEASURED:])
