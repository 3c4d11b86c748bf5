from hypothesis import given
from hypothesis import strategies as st

from petseg.conversion import shards


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=200), st.integers(1, 50_000))
def test_a_plan_keeps_the_order_and_leaves_no_shard_empty(sizes, shard_bytes):
    plan = shards.plan_shards(range(len(sizes)), sizes, shard_bytes)
    assert [item for part in plan for item in part] == list(range(len(sizes)))
    assert all(plan)
    assert len(plan) == min(len(sizes), max(1, round(sum(sizes) / shard_bytes)))


@given(st.lists(st.integers(900, 1100), min_size=50, max_size=300), st.integers(5_000, 20_000))
def test_shards_of_like_items_come_near_the_wanted_size(sizes, shard_bytes):
    plan = shards.plan_shards(sizes, sizes, shard_bytes)
    even = sum(sizes) / len(plan)
    assert all(abs(sum(part) - even) <= max(sizes) for part in plan)


def test_a_name_sorts_as_its_index():
    assert shards.shard_name("pets", "train", 3, 12) == "pets-train.tfrecord-00003-of-00012"
