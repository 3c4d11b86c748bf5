import dataclasses
import os

import pytest

from petseg.data import shard_hashes
from petseg.data.manifest import Split


def test_complete_shards_pass(tmp_path, finished):
    assert shard_hashes.check_shards(str(tmp_path), finished.splits.values(), hashes=True) == []


@pytest.mark.parametrize("hashes", [True, False])
def test_a_missing_or_cut_shard_is_reported(tmp_path, finished, hashes):
    first, second = (tmp_path / shard.name for shard in finished.splits["train"].shards)
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    faults = shard_hashes.check_shards(str(tmp_path), finished.splits.values(), hashes)
    assert faults == [
        f"{first} is missing",
        f"{second} has 95 bytes, its manifest says 96",
    ]


def test_every_flipped_bit_is_found(tmp_path, finished):
    path = tmp_path / finished.splits["train"].shards[0].name
    content = path.read_bytes()
    for index in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[index] ^= 1 << bit
            path.write_bytes(flipped)
            faults = shard_hashes.check_shards(str(tmp_path), finished.splits.values(), hashes=True)
            assert faults == [f"{path} differs from its manifest (SHA-256)"]


def test_a_count_that_is_off_by_one_is_found_though_the_hash_is_right(tmp_path, finished):
    first, second = finished.splits["train"].shards
    wrong = Split((dataclasses.replace(first, records=first.records + 1), second))
    faults = shard_hashes.check_shards(str(tmp_path), [wrong], hashes=True)
    assert faults == [f"{tmp_path / first.name} holds 3 records, its manifest says 4"]


@pytest.mark.parametrize("hashes", [True, False])
@pytest.mark.parametrize("kind", ["device", "fifo", "folder"])
def test_a_shard_that_is_no_regular_file_is_not_read(tmp_path, finished, kind, hashes):
    path = tmp_path / finished.splits["train"].shards[0].name
    path.unlink()
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    (fault,) = shard_hashes.check_shards(str(tmp_path), finished.splits.values(), hashes)
    said = {"device": "a device", "fifo": "a FIFO", "folder": "a folder"}[kind]
    assert fault == f"{path} cannot be read: it is {said}, not a regular file"
