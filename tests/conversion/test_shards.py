import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from petseg.conversion import local_runner, shards
from petseg.conversion.prepare import RecordOptions
from petseg.conversion.sources.base import MaskRules
from petseg.data import manifest, shard_files
from petseg.errors import FaultFound


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=200), st.integers(1, 50_000))
def test_a_plan_keeps_the_order_and_leaves_no_shard_empty(sizes, shard_bytes):
    plan = shard_files.plan_shards(range(len(sizes)), sizes, shard_bytes)
    assert [item for part in plan for item in part] == list(range(len(sizes)))
    assert all(plan)
    assert len(plan) == min(len(sizes), max(1, round(sum(sizes) / shard_bytes)))


@given(st.lists(st.integers(900, 1100), min_size=50, max_size=300), st.integers(5_000, 20_000))
def test_shards_of_like_items_come_near_the_wanted_size(sizes, shard_bytes):
    plan = shard_files.plan_shards(sizes, sizes, shard_bytes)
    even = sum(sizes) / len(plan)
    assert all(abs(sum(part) - even) <= max(sizes) for part in plan)


def test_a_name_sorts_as_its_index():
    assert manifest.shard_name("pets", "train", 3, 12) == "pets-train.tfrecord-00003-of-00012"


@given(st.integers(1, 50), st.integers(1, 60))
def test_parts_are_the_shard_in_order_and_none_is_empty(examples, count):
    task = shards.ShardTask("x", tuple(range(examples)))
    parts = shards.parts_of(task, count)
    assert [example for part in parts for example in part.examples] == list(range(examples))
    assert all(part.examples for part in parts)
    assert len(parts) <= count
    assert all(part.is_whole == (len(parts) == 1) for part in parts)


@given(st.integers(1, 30), st.integers(1, 9))
def test_only_the_last_shards_are_cut_and_no_worker_is_idle(count, workers):
    tasks = [shards.ShardTask(str(i), tuple(range(100))) for i in range(count)]
    parts = local_runner._parts(tasks, workers)
    assert list(parts) == [task.name for task in tasks]
    cut = [name for name in parts if len(parts[name]) > 1]
    assert len(cut) in (0, count % workers)
    assert sum(len(parts[name]) for name in cut) >= (2 * workers if cut else 0)


def test_a_disk_that_fails_while_flushing_is_reported(tmp_path, monkeypatch):
    def fail(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    (tmp_path / shard_files.WORK_DIR).mkdir()
    with pytest.raises(FaultFound, match="No space left on device"):
        shards.write_shard(
            shards.ShardTask("x", ()), RecordOptions(MaskRules(None)), str(tmp_path), False, print
        )
    assert list((tmp_path / shard_files.WORK_DIR).iterdir()) == []
