"""Conversions in this process, for tests."""

import hashlib
import io
from pathlib import Path

from PIL import Image

from petseg.conversion.prepare import Settings
from petseg.conversion.sources import oxford_iiit_pet
from petseg.conversion.write_dataset import Runner, write_dataset
from petseg.data import output_folder, shard_files
from petseg.data.manifest import Manifest


def convert(raw: Path, output: Path, **changes) -> Manifest:
    """Converts a pets folder as petseg-convert does, in this process."""
    fraction = changes.pop("validation_fraction", 0.25)
    changes = {"source": {"source": "oxford_iiit_pet", "split_by": ""}, **changes}
    return write(
        lambda: oxford_iiit_pet.list_oxford_iiit_pet(
            str(raw), fraction, f"{output}/{shard_files.WORK_DIR}"
        ),
        output,
        **changes,
    )


def write(list_source, output: Path, **changes) -> Manifest:
    """Converts what a function lists, in this process and without a progress bar."""
    arguments = {"name": "pets", "source": {"split_by": ""}, "shard_mib": 0.05}
    arguments |= {"fail_on_bad": False, "runner": Runner(show_progress=False)}
    settings = {"validate": "full", "short_side_px": 0, "jpeg_quality": 95}
    settings |= {key: changes.pop(key) for key in list(changes) if key in settings}
    with output_folder.claim(str(output)):
        listing = list_source()
        return write_dataset(
            listing,
            str(output),
            settings=Settings(listing.masks, **settings),
            **{**arguments, **changes},
        )


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    """A picture as the bytes of a file of that kind."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def files_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a folder, by name."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
