import dataclasses
import hashlib
import json

import pytest

from petseg.data import manifest
from petseg.data.manifest import Finding, Manifest, Shard, Split
from petseg.errors import UserError


@pytest.fixture
def finished(tmp_path) -> Manifest:
    shards = []
    for index, content in enumerate((b"first shard", b"second, longer shard")):
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
        raw_labels={1: "pet", 2: "background"},
        splits={"train": Split(tuple(shards))},
        unplaced=(Finding("b é", "test", "missing"),),
    )
    manifest.write_manifest(str(tmp_path), made)
    return made


def test_what_was_written_is_read_back(tmp_path, finished):
    assert manifest.read_manifest(str(tmp_path)) == finished


def test_a_split_is_the_sum_of_its_shards(tmp_path, finished):
    split = finished.splits["train"]
    assert split.records == 7
    assert split.bytes == len(b"first shard") + len(b"second, longer shard")
    assert split.pixels_per_label == {1: 80, 2: 60, 3: 60}
    assert split.mean_height == pytest.approx(2001 / 7)
    assert split.mean_width == pytest.approx(4000 / 7)
    assert [f.name for f in finished.repaired] == ["a0", "a1"]
    assert [f.name for f in finished.rejected] == ["b é", "c"]
    written = json.loads((tmp_path / "manifest.json").read_text())["splits"]["train"]
    assert written["records"] == 7
    assert written["pixels_per_label"] == {"1": 80, "2": 60, "3": 60}


def test_any_change_changes_the_digest(finished):
    shard = finished.splits["train"].shards[0]
    other = dataclasses.replace(shard, sha256="0" * 64)
    split = Split((other,))
    assert dataclasses.replace(finished, splits={"train": split}).digest() != finished.digest()


def test_complete_shards_pass(tmp_path, finished):
    assert manifest.check_shards(str(tmp_path), finished.splits.values(), hashes=True) == []


@pytest.mark.parametrize("hashes", [True, False])
def test_a_missing_or_cut_shard_is_reported(tmp_path, finished, hashes):
    first, second = (tmp_path / shard.name for shard in finished.splits["train"].shards)
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    faults = manifest.check_shards(str(tmp_path), finished.splits.values(), hashes)
    assert faults == [
        f"{first} is missing",
        f"{second} has 19 bytes, its manifest says 20",
    ]


def test_every_flipped_bit_is_found(tmp_path, finished):
    path = tmp_path / finished.splits["train"].shards[0].name
    content = path.read_bytes()
    for index in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[index] ^= 1 << bit
            path.write_bytes(flipped)
            faults = manifest.check_shards(str(tmp_path), finished.splits.values(), hashes=True)
            assert faults == [f"{path} differs from its manifest (SHA-256)"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "damaged"),
        ("{}", "damaged"),
        ("[1]", "damaged"),
        ('{"version": 99}', "version 99"),
        ('{"version": 2, "name": "x"}', "damaged"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused(tmp_path, text, reason):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=reason):
        manifest.read_manifest(str(tmp_path))


def test_a_folder_without_a_manifest_is_no_data_set(tmp_path):
    with pytest.raises(UserError, match=r"no manifest\.json"):
        manifest.read_manifest(str(tmp_path))
    with pytest.raises(UserError, match="no such data set"):
        manifest.read_manifest(str(tmp_path / "absent"))


def test_the_error_of_an_absent_split_names_the_existing_ones(finished):
    with pytest.raises(UserError, match="no split 'test': it has train"):
        finished.split("test", "DIR")
