import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from petseg.conversion import local_runner, shards
from petseg.conversion.plan import Run, ShardTask
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


def task_of(name: str, records: int) -> ShardTask:
    return ShardTask(name, (Run("bucket", 0, records),))


@given(st.integers(1, 30), st.integers(1, 9), st.sets(st.integers(0, 29)))
def test_only_the_last_shards_are_cut_and_no_worker_is_idle(count, workers, begun):
    tasks = [task_of(str(i), 100) for i in range(count)]
    parts = local_runner._parts(tasks, {str(i) for i in begun}, workers)
    assert list(parts) == [task.name for task in tasks]
    cut = {name for name in parts if len(parts[name]) > 1}
    last = {str(i) for i in range(count - count % workers, count)}
    assert cut in (set(), last - {str(i) for i in begun})
    assert all(len(parts[name]) >= 2 * workers // len(last) for name in cut)


def test_a_disk_that_fails_while_flushing_is_reported(tmp_path, monkeypatch):
    def fail(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    (tmp_path / shard_files.WORK_DIR).mkdir()
    with pytest.raises(FaultFound, match="No space left on device"):
        shards.keep_or_write_shard(
            ShardTask("x", ()), RecordOptions(MaskRules(None)), str(tmp_path), False, print
        )
    assert list((tmp_path / shard_files.WORK_DIR).iterdir()) == []
