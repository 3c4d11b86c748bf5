"""Draws a small toy pet data set in the official Oxford-IIIT layout.

  python -m petseg.cli.draw_toy_pets --output_dir=DIR

Animals of varied shape, pose and fur stand before textured backgrounds; each trimap has pet
(1), background (2) and a band of border (3) around the outline. The same flags draw the same
files. Statuses: 0 done; 2 a wrong command or folder.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image, ImageDraw, ImageFilter

from petseg import paths
from petseg.cli import command, path_flags
from petseg.cli.smooth_noise import smooth_noise
from petseg.errors import UserError
from petseg.progress import Progress

_OUTPUT_DIR = path_flags.define(
    "output_dir", None, "New or empty folder for the data set.", required=True
)
_TRAINVAL_IMAGES = flags.DEFINE_integer(
    "trainval_images", 320, "Images for training and validation.", lower_bound=4
)
_TEST_IMAGES = flags.DEFINE_integer("test_images", 40, "Images for the test.", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "Another seed draws other animals.", lower_bound=0)

_PET, _BACKGROUND, _BORDER = 1, 2, 3
_SUPERSAMPLING = 2
_JPEG_QUALITY = 92


@dataclasses.dataclass(frozen=True)
class Breed:
    """What the animals of one breed share.

    Attributes:
      name: Name in the lists; a capital marks a cat, as in the real lists.
      species: 1 for a cat, 2 for a dog.
      fur: Mean RGB colour, 0-255.
      marks: RGB colour of stripes or patches, 0-255.
      stripes: Whether the marks are stripes; otherwise they are patches.
      ear: 'pointed' or 'floppy'.
      leg_length: Length of the legs, in body heights.
    """

    name: str
    species: int
    fur: tuple[int, int, int]
    marks: tuple[int, int, int]
    stripes: bool
    ear: str
    leg_length: float


BREEDS = (
    Breed("Marmalade", 1, (205, 130, 60), (150, 80, 30), True, "pointed", 0.7),
    Breed("Slate", 1, (105, 110, 122), (200, 200, 205), False, "pointed", 0.6),
    Breed("biscuit_hound", 2, (190, 160, 115), (95, 65, 40), False, "floppy", 1.1),
    Breed("pepper_terrier", 2, (70, 62, 58), (175, 165, 150), True, "floppy", 0.5),
)


def draw_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draws a ground and a wall of mottled or striped texture: float32 RGB, 0-255."""
    horizon = round(height * rng.uniform(0.3, 0.7))
    canvas = np.empty((height, width, 3), np.float32)
    for top, bottom in ((0, horizon), (horizon, height)):
        base = rng.uniform(40, 225, 3)
        # Some backgrounds have the colour of a fur, so that colour alone says little.
        if rng.random() < 0.4:
            base = np.array(BREEDS[rng.integers(len(BREEDS))].fur) + rng.normal(0, 25, 3)
        rows = bottom - top
        texture = smooth_noise(rng, rows, width, rng.uniform(12, 60)) - 0.5
        texture = texture + 0.6 * (smooth_noise(rng, rows, width, rng.uniform(2, 5)) - 0.5)
        if rng.random() < 0.4:
            y, x = np.mgrid[0:rows, 0:width]
            angle, period_px = rng.uniform(0, math.pi), rng.uniform(10, 40)
            wave = np.sin(2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / period_px)
            texture = texture + 0.3 * np.sign(wave)
        tint = rng.normal(1, 0.15, 3)
        canvas[top:bottom] = base + texture[..., None] * rng.uniform(30, 110) * tint
    return canvas.clip(0, 255)


def draw_silhouette(rng: np.random.Generator, height: int, width: int, breed: Breed) -> np.ndarray:
    """Draws a silhouette with head, ears, legs and tail: bool [height, width]."""
    scale = _SUPERSAMPLING
    canvas = Image.new("L", (width * scale, height * scale))
    draw = ImageDraw.Draw(canvas)
    unit = min(height, width) * scale * rng.uniform(0.16, 0.27)  # half a body's height
    x = width * scale * rng.uniform(0.42, 0.58)
    y = height * scale * rng.uniform(0.42, 0.6)
    side = rng.choice((-1, 1))  # facing left or right
    long = unit * rng.uniform(1.2, 1.7)
    tilt = rng.normal(0, 0.12)

    def position(forward: float, up: float) -> tuple[float, float]:
        dx, dy = side * forward * long, -up * unit
        return x + dx * math.cos(tilt) - dy * math.sin(tilt), y + dx * math.sin(tilt) + dy

    def ball(centre: tuple[float, float], across: float, down: float) -> None:
        cx, cy = centre
        draw.ellipse((cx - across, cy - down, cx + across, cy + down), fill=255)

    def limb(points: Sequence[tuple[float, float]], thickness: float) -> None:
        draw.line(points, fill=255, width=max(1, round(2 * thickness)), joint="curve")
        for point in points:
            ball(point, thickness, thickness)

    ball((x, y), long, unit * 0.85)
    ball(position(-0.55, 0), unit * 0.85, unit * 0.88)
    for forward in (-0.75, -0.45, 0.45, 0.75):
        foot = forward + rng.normal(0, 0.14)
        limb(
            [position(forward, -0.3), position(foot, -0.7 - breed.leg_length)],
            unit * rng.uniform(0.16, 0.22),
        )
    rise, sway = rng.uniform(-0.2, 1.4), rng.uniform(-0.3, 0.4)
    limb(
        [position(-0.9, 0.2), position(-1.25, 0.2 + rise / 2), position(-1.35 - sway, 0.3 + rise)],
        unit * rng.uniform(0.1, 0.2),
    )
    head = position(1.0 + rng.normal(0, 0.08), rng.uniform(0.45, 1.0))
    skull = unit * rng.uniform(0.55, 0.7)
    limb([position(0.6, 0.2), head], unit * 0.42)
    ball(head, skull, skull * 0.92)
    snout = skull * (0.35 if breed.species == 1 else 0.85)
    limb([head, (head[0] + side * (skull * 0.6 + snout), head[1] + skull * 0.3)], skull * 0.32)
    for direction in (-1, 1):
        root = (head[0] + direction * skull * 0.6, head[1] - skull * 0.45)
        if breed.ear == "pointed":
            tip = (root[0] + direction * skull * 0.25, root[1] - skull * rng.uniform(0.7, 1.1))
            base = skull * 0.38
            draw.polygon(
                [(root[0] - base, root[1] + base), tip, (root[0] + base, root[1] + base)], fill=255
            )
        else:
            limb(
                [
                    root,
                    (root[0] + direction * skull * 0.35, root[1] + skull * rng.uniform(0.7, 1.2)),
                ],
                skull * 0.24,
            )
    small = canvas.resize((width, height), Image.Resampling.BOX)
    return np.asarray(small) >= 128


def draw_fur(rng: np.random.Generator, height: int, width: int, breed: Breed) -> np.ndarray:
    """Draws a coat with marks, hair and light from above: float32 RGB, 0-255."""
    colour = np.array(breed.fur, np.float32) + rng.normal(0, 18, 3)
    marks = np.array(breed.marks, np.float32) + rng.normal(0, 18, 3)
    noise = smooth_noise(rng, height, width, rng.uniform(14, 30))
    if breed.stripes:
        y, x = np.mgrid[0:height, 0:width]
        angle = rng.uniform(-0.5, 0.5)
        wave = np.sin((x * math.cos(angle) + y * math.sin(angle)) / rng.uniform(2.5, 5) + 6 * noise)
        share = (wave > 0.45).astype(np.float32)
    else:
        share = (noise > rng.uniform(0.55, 0.7)).astype(np.float32)
    coat = colour + share[..., None] * (marks - colour) * rng.uniform(0.6, 1)
    hair = smooth_noise(rng, height * 2, width, 2)[::2] - 0.5
    light = np.linspace(1.12, 0.78, height, dtype=np.float32)[:, None, None]
    return ((coat + 60 * hair[..., None]) * light).clip(0, 255)


def draw_pet(rng: np.random.Generator, breed: Breed) -> tuple[Image.Image, Image.Image]:
    """Draws one animal: an RGB picture of varied size, and its trimap."""
    height, width = (int(side) for side in rng.integers(150, 230, 2))
    outline = draw_silhouette(rng, height, width, breed)
    soft = Image.fromarray(outline.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(0.8))
    alpha = np.asarray(soft, np.float32)[..., None] / 255
    background, fur = draw_background(rng, height, width), draw_fur(rng, height, width, breed)
    picture = background * (1 - alpha) + fur * alpha + rng.normal(0, 5, (height, width, 1))
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8)), make_trimap(outline)


def make_trimap(outline: np.ndarray, band_px: int = 2) -> Image.Image:
    """Makes a trimap whose border reaches band_px to either side of the outline."""
    size = 2 * band_px + 1
    pet = Image.fromarray(outline.astype(np.uint8) * 255)
    trimap = np.full(outline.shape, _BORDER, np.uint8)
    trimap[np.asarray(pet.filter(ImageFilter.MaxFilter(size))) == 0] = _BACKGROUND
    trimap[np.asarray(pet.filter(ImageFilter.MinFilter(size))) == 255] = _PET
    return Image.fromarray(trimap)


def draw_dataset(output_dir: Path, trainval_images: int, test_images: int, seed: int) -> None:
    """Draws all images, their trimaps and the three lists."""
    trimaps = output_dir / "annotations" / "trimaps"
    for folder in (output_dir / "images", trimaps):
        folder.mkdir(parents=True)
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    count = trainval_images + test_images
    progress = Progress(0, count, title="draw toy pets", unit="image")
    for index in range(count):
        progress.advance()
        breed_id = index % len(BREEDS) + 1
        breed = BREEDS[breed_id - 1]
        name = f"{breed.name}_{index // len(BREEDS) + 1}"
        picture, trimap = draw_pet(np.random.default_rng([seed, index]), breed)
        picture.save(output_dir / "images" / f"{name}.jpg", quality=_JPEG_QUALITY)
        trimap.save(trimaps / f"{name}.png")
        split = "trainval" if index < trainval_images else "test"
        lists[split].append(f"{name} {breed_id} {breed.species} {breed_id}")
    progress.close()
    lists["list"] = lists["trainval"] + lists["test"]
    # The lists come last, because they make the folder a data set.
    for name, lines in lists.items():
        text = "".join(f"{line}\n" for line in sorted(lines))
        (output_dir / "annotations" / f"{name}.txt").write_text(text)


def main(_: Sequence[str]) -> None:
    """Draws the data set."""
    output_dir = Path(_OUTPUT_DIR.value)
    if output_dir.exists() and (not output_dir.is_dir() or paths.things_in(output_dir)):
        raise UserError(f"--output_dir: {output_dir} is not an empty folder; name a new one")
    draw_dataset(output_dir, _TRAINVAL_IMAGES.value, _TEST_IMAGES.value, _SEED.value)
    print(f"toy pets   {output_dir}")


def run() -> None:
    """The console entry point."""
    command.run(main, ("output_dir", "trainval_images", "test_images", "seed"))


if __name__ == "__main__":
    run()
