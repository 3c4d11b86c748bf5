import hashlib

import numpy as np
import pytest
from PIL import Image

from petseg.cli import draw_toy_pets


def digest(folder) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


def test_the_same_seed_draws_the_same_files_and_another_one_others(raw_pets, tmp_path):
    for name, seed in (("same", 0), ("other", 1)):
        draw_toy_pets.draw_dataset(tmp_path / name, trainval_images=28, test_images=4, seed=seed)
    assert digest(tmp_path / "same") == digest(raw_pets)
    assert digest(tmp_path / "other").keys() == digest(raw_pets).keys()
    images = [name for name in digest(raw_pets) if name.startswith("images")]
    assert all(digest(tmp_path / "other")[name] != digest(raw_pets)[name] for name in images)


def test_every_trimap_has_pet_background_and_a_border_between_them(raw_pets):
    for path in (raw_pets / "annotations" / "trimaps").iterdir():
        labels = np.asarray(Image.open(path))
        with Image.open(raw_pets / "images" / f"{path.stem}.jpg") as image:
            assert image.size == labels.shape[::-1]
        shares = [(labels == value).mean() for value in (1, 2, 3)]
        assert sum(shares) == pytest.approx(1)
        assert 0.03 < shares[0] < 0.7 and shares[1] > 0.2 and 0.01 < shares[2] < 0.25
        # Nowhere does a pet's pixel touch the background.
        for one, other in ((labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])):
            pairs = set(zip(one.ravel().tolist(), other.ravel().tolist(), strict=True))
            assert not pairs & {(1, 2), (2, 1)}


def test_colour_alone_does_not_tell_pet_from_background(raw_pets):
    # The best threshold on any channel, over all images, must stay far from a good mask.
    pixels, labels = [], []
    for path in sorted((raw_pets / "annotations" / "trimaps").iterdir()):
        mask = np.asarray(Image.open(path))
        with Image.open(raw_pets / "images" / f"{path.stem}.jpg") as image:
            pixels.append(np.asarray(image)[mask != 3])
        labels.append(mask[mask != 3] == 1)
    pixels, labels = np.concatenate(pixels), np.concatenate(labels)
    best = 0.0
    for channel in range(3):
        for threshold in range(0, 256, 16):
            for predicted in (pixels[:, channel] > threshold, pixels[:, channel] <= threshold):
                best = max(best, (predicted & labels).sum() / (predicted | labels).sum())
    assert best < 0.6
