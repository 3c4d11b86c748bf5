import collections
import hashlib
import itertools
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petseg.conversion import plan, spill
from petseg.conversion.choices import SPLITS
from petseg.conversion.files import StoredFile
from petseg.conversion.plan import Plan, Run, ShardTask
from petseg.conversion.sources.base import FilePair, SourceExample
from petseg.errors import UserError


def example(name: str, split: str = "train", size: int = 100) -> SourceExample:
    return SourceExample(name, split, FilePair(StoredFile(f"{name}.jpg", size), StoredFile("m", 0)))


def planned(folder, examples, in_memory: int = 1000) -> Plan:
    folder.mkdir(parents=True)
    with mock.patch.object(spill, "IN_MEMORY", in_memory):
        return plan.make_plan(examples, str(folder))


def in_order(examples) -> dict[str, list[SourceExample]]:
    """The order of the hashes, by Python's own sort of all names at once."""
    found = collections.defaultdict(list)
    for one in sorted(examples, key=lambda e: hashlib.sha256(e.name.encode()).hexdigest()):
        found[one.split].append(one)
    return dict(found)


@pytest.mark.parametrize("in_memory", [1, 7, 200, 1000])
def test_buckets_on_disk_give_the_order_of_a_sort_in_memory(tmp_path, in_memory):
    seed = int(np.random.default_rng().integers(1 << 30))
    print("seed", seed)
    rng = np.random.default_rng(seed)
    examples = [
        example(f"name-{i}", SPLITS[rng.integers(3)], int(rng.integers(1000))) for i in range(700)
    ]
    found = planned(tmp_path / "plan", rng.permutation(np.array(examples, object)), in_memory)
    expected = in_order(examples)
    assert {split: list(found.examples(split)) for split in found.splits} == expected
    assert found.records == 700
    assert {s: found.bytes(s) for s in found.splits} == {
        split: sum(e.pair.bytes for e in of) for split, of in expected.items()
    }


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 10_000), min_size=1, max_size=150),
    st.integers(1, 50_000),
    st.sampled_from([3, 1000]),
)
def test_shards_keep_the_order_and_none_is_empty(tmp_path_factory, sizes, shard_bytes, in_memory):
    examples = [example(str(i), size=size) for i, size in enumerate(sizes)]
    found = planned(tmp_path_factory.mktemp("p") / "plan", examples, in_memory)
    tasks = found.tasks("train", "x", shard_bytes)
    stored = [one for task in tasks for one in task.examples()]
    assert stored == in_order(examples)["train"]
    assert all(task.records > 0 for task in tasks)
    most = min(len(sizes), max(1, round(sum(sizes) / shard_bytes)))
    assert len(tasks) <= most
    if max(sizes) * most <= sum(sizes):  # no example fills a shard of its own
        assert len(tasks) == most
        even = sum(sizes) / len(tasks)
        of_tasks = [sum(e.pair.bytes for e in task.examples()) for task in tasks]
        assert all(abs(size - even) <= max(sizes) for size in of_tasks)
    assert [task.name for task in tasks] == [
        f"x-train.tfrecord-{i:05d}-of-{len(tasks):05d}" for i in range(len(tasks))
    ]


@given(st.lists(st.integers(1, 90), min_size=1, max_size=4), st.integers(1, 60))
def test_parts_are_the_shard_in_order_and_none_is_empty(counts, count):
    task = ShardTask("x", tuple(Run(str(i), 5 * i, n) for i, n in enumerate(counts)))
    parts = task.parts(count)

    def positions(of: ShardTask) -> list[tuple[str, int]]:
        return [(run.path, run.first + i) for run in of.runs for i in range(run.count)]

    assert list(itertools.chain(*map(positions, parts))) == positions(task)
    assert all(part.records for part in parts)
    assert len(parts) <= count
    assert all(part.is_whole == (len(parts) == 1) for part in parts)


@pytest.mark.parametrize("in_memory", [2, 1000])
def test_two_examples_of_one_name_are_refused(tmp_path, in_memory):
    names = ["a", "b", "c", "d", "b"]
    with pytest.raises(UserError, match="two examples called 'b'"):
        planned(tmp_path / "plan", [example(n) for n in names], in_memory)


def test_a_plan_without_some_names_keeps_the_order(tmp_path, monkeypatch):
    monkeypatch.setattr(spill, "IN_MEMORY", 40)
    examples = [example(str(i), SPLITS[i % 2]) for i in range(200)]
    whole = planned(tmp_path / "whole", examples)
    (tmp_path / "less").mkdir()
    less = plan.excluding(whole, {str(i) for i in range(0, 200, 3)}, str(tmp_path / "less"))
    expected = in_order([e for e in examples if int(e.name) % 3])
    assert {split: list(less.examples(split)) for split in less.splits} == expected


def test_nothing_listed_is_a_plan_without_splits(tmp_path):
    assert planned(tmp_path / "plan", []).splits == ()
