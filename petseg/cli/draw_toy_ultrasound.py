"""Draws a small toy ultrasound data set: grey images of speckle, most with a faint nerve.

  python -m petseg.cli.draw_toy_ultrasound --output_dir=DIR
  petseg-convert --source=folders --raw_dir=DIR --classes=DIR/classes.csv --output_dir=OUT

A patient's frames follow each other and look much alike. Of six frames in ten the mask holds a
nerve (1) on the background (0); the others have none, though most show a vessel that resembles
one. The same flags draw the same files. Statuses: 0 done; 2 a wrong command or folder.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image

from petseg import paths
from petseg.cli import command, path_flags
from petseg.cli.smooth_noise import smooth_noise
from petseg.errors import UserError
from petseg.progress import Progress

_OUTPUT_DIR = path_flags.define(
    "output_dir", None, "New or empty folder for the data set.", required=True
)
_PATIENTS = flags.DEFINE_integer("patients", 30, "Patients, each with 12 frames.", lower_bound=2)
_SEED = flags.DEFINE_integer("seed", 0, "Another seed draws other patients.", lower_bound=0)

HEIGHT, WIDTH, FRAMES = 96, 128, 12
_VESSEL_PROBABILITY = 0.7
_LOOKS = 5  # independent echoes of a pixel; fewer are more speckle
_CONTRAST = 0.4  # of the nerve's brightness with that of the tissue around it


def draw_patient(rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draws the frames of a patient.

    Returns:
      For each frame the image, uint8 [96, 128], and the mask, uint8 [96, 128]: 1 is nerve.
    """
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    tissue = 0.25 + 0.4 * smooth_noise(rng, HEIGHT, WIDTH, 30)
    bend = 10 * np.sin(2 * math.pi * x / WIDTH * rng.uniform(0.3, 1) + rng.uniform(0, 6))
    for depth in rng.uniform(15, 85, 3):  # bright sheets between muscles
        tissue += 0.35 * np.exp(-(((y - depth - bend) / 2.5) ** 2))
    centre = np.array([rng.uniform(35, 65), rng.uniform(35, 95)])
    radii = np.array([rng.uniform(9, 15), rng.uniform(14, 24)])
    vessel = np.array([rng.uniform(20, 75), rng.uniform(20, 110)])
    vessel_radius_px, has_vessel = rng.uniform(5, 9), rng.random() < _VESSEL_PROBABILITY
    shown = _frames_with_nerve(rng)
    drift = np.cumsum(rng.normal(0, 1.2, (FRAMES, 2)), 0)
    frames = []
    for index in range(FRAMES):
        echo, mask = tissue.copy(), np.zeros((HEIGHT, WIDTH), np.uint8)
        down, across = vessel + drift[index]
        if has_vessel:
            echo[(y - down) ** 2 + (x - across) ** 2 < vessel_radius_px**2] *= 0.45
        if shown[index]:
            down, across = centre + drift[index]
            distance = ((y - down) / radii[0]) ** 2 + ((x - across) / radii[1]) ** 2
            mask[distance < 1] = 1
            bundles = 0.5 + 0.5 * np.sin(y - down) * np.sin(x - across)
            inside = echo * (1 - _CONTRAST) + 0.25 * _CONTRAST * bundles
            rim = np.exp(-(((np.sqrt(distance) - 1) * 8) ** 2))
            echo = np.where(distance < 1, inside, echo) + 0.5 * _CONTRAST * rim
        echo *= 1 - 0.35 * y / HEIGHT  # weaker with depth
        speckle = rng.gamma(_LOOKS, 1 / _LOOKS, (HEIGHT, WIDTH))
        frames.append(((255 * echo * speckle).clip(0, 255).astype(np.uint8), mask))
    return frames


def _frames_with_nerve(rng: np.random.Generator) -> np.ndarray:
    """bool [frames]: the probe meets the nerve in neighbouring frames, in all, or never."""
    count = int(rng.binomial(FRAMES, rng.beta(3, 2)))  # 0.6 on average
    first = int(rng.integers(0, FRAMES - count + 1))
    index = np.arange(FRAMES)
    return (index >= first) & (index < first + count)


def draw_dataset(folder: Path, patients: int, seed: int) -> None:
    """Writes images/, masks/ and classes.csv, as petseg-convert's --source=folders reads them.

    Args:
      folder: Empty or new.
      patients: Their number; the frames of patient 7 are patient07_01.png, ...
      seed: Of what is drawn.
    """
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "classes.csv").write_text("0,background\n1,nerve\n")
    with Progress(0, patients, title="draw", unit="patient") as progress:
        for patient in range(patients):
            frames = draw_patient(np.random.default_rng([seed, patient]))
            for index, (image, mask) in enumerate(frames, 1):
                name = f"patient{patient + 1:02}_{index:02}.png"
                Image.fromarray(image).save(folder / "images" / name)
                Image.fromarray(mask).save(folder / "masks" / name)
            progress.advance()


def main(_: Sequence[str]) -> None:
    """Draws the data set."""
    folder = Path(_OUTPUT_DIR.value)
    if folder.exists() and (not folder.is_dir() or paths.things_in(folder)):
        raise UserError(f"--output_dir: {folder} is not an empty folder; name a new one")
    draw_dataset(folder, _PATIENTS.value, _SEED.value)
    print(f"toy ultrasound   {folder}")


def run() -> None:
    """The command."""
    command.run(main, ("output_dir", "patients", "seed"))


if __name__ == "__main__":
    run()
