"""Toy photographs of coloured shapes with five classes and colour-coded masks."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = {
    "ground": (128, 64, 128),
    "disc": (220, 20, 60),
    "box": (0, 0, 142),
    "triangle": (107, 142, 35),
    "stripe": (250, 170, 30),
}
VOID = (0, 0, 0)
VOID_ID = 255


def draw_pair(rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """A noisy picture of shapes, and its mask in the classes' colours with a void frame."""
    width, height = (int(n) for n in rng.integers(60, 120, 2))
    mask = Image.new("RGB", (width, height), CLASSES["ground"])
    draw = ImageDraw.Draw(mask)
    for name in list(CLASSES)[1:]:
        x, y = rng.integers(5, width - 30), rng.integers(5, height - 30)
        size = int(rng.integers(12, 25))
        box = (int(x), int(y), int(x) + size, int(y) + size)
        if name == "disc":
            draw.ellipse(box, CLASSES[name])
        elif name == "box":
            draw.rectangle(box, CLASSES[name])
        elif name == "triangle":
            draw.polygon(
                [(box[0], box[3]), (box[2], box[3]), (box[0] + size // 2, box[1])], CLASSES[name]
            )
        else:
            draw.line(box, CLASSES[name], width=5)
    draw.rectangle((0, 0, width - 1, height - 1), outline=VOID)
    noise = rng.normal(0, 12, (height, width, 3))
    pixels = (np.asarray(mask) * 0.6 + 60 + noise).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels), mask


def draw_folders(folder: Path, count: int, seed: int) -> None:
    """Writes images/, masks/ and classes.csv."""
    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        image, mask = draw_pair(rng)
        image.save(folder / "images" / f"shape_{index:04d}.jpg", quality=92)
        mask.save(folder / "masks" / f"shape_{index:04d}.png")
    lines = ["id,name,colour"]
    for class_id, (name, colour) in enumerate(CLASSES.items()):
        lines.append(f"{class_id},{name},#{bytes(colour).hex()}")
    lines.append(f"{VOID_ID},void,0 0 0")
    (folder / "classes.csv").write_text("\n".join(lines) + "\n")
