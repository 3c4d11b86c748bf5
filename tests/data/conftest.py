"""A small data set that is finished."""

import hashlib

import pytest

from petseg.data import manifest, tfrecord
from petseg.data.manifest import Finding, Manifest, Shard, Split


@pytest.fixture
def finished(tmp_path) -> Manifest:
    """Its manifest; the shards and manifest.json lie in tmp_path."""
    shards = []
    for index in range(2):
        content = b"".join(tfrecord.frame(b"record %d" % i) for i in range(3 + index))
        name = f"pets-train.tfrecord-{index:05d}-of-00002"
        (tmp_path / name).write_bytes(content)
        shards.append(
            Shard(
                name=name,
                records=3 + index,
                bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                inputs="0" * 64,
                pixels_per_label={1: 40, 2 + index: 60},
                height_sum=1000 + index,
                width_sum=2000,
                repaired=(Finding(f"a{index}", "train", "was a GIF"),),
                rejected=(Finding("c", "train", "empty"),) * index,
            )
        )
    made = Manifest(
        name="pets",
        source={"source": "oxford_iiit_pet", "validation_fraction": 0.1},
        raw_labels={1: "pet", 2: "background", 3: "border"},
        colours={1: (255, 0, 10)},
        splits={"train": Split(tuple(shards))},
        unplaced=(Finding("b é", "test", "missing"),),
    )
    manifest.write_manifest(str(tmp_path), made)
    return made
