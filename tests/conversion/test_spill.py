import hashlib
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from petseg.conversion import spill
from petseg.conversion.spill import Buckets, SpilledList


@given(st.lists(st.text(max_size=4), max_size=60), st.sampled_from([1, 2, 7, 1000]))
def test_buckets_hold_every_item_in_the_order_of_hashes_as_often_as_asked(names, in_memory):
    buckets = Buckets()
    with mock.patch.object(spill, "IN_MEMORY", in_memory):
        for index, name in enumerate(names):
            buckets.add(hashlib.sha256(name.encode()).digest(), (index, name))
    for _ in range(2):
        found = [(d, item) for _, items in buckets for d, item in sorted(items)]
        expected = sorted(
            (hashlib.sha256(name.encode()).digest(), (i, name)) for i, name in enumerate(names)
        )
        assert found == expected
        homes = [(item[1], number) for number, items in buckets for _, item in items]
        assert len(dict(homes)) == len(set(homes))  # one bucket for each name


@given(st.lists(st.integers(), max_size=50), st.lists(st.integers(), max_size=50))
def test_a_list_on_disk_is_the_list(first, more):
    with mock.patch.object(spill, "IN_MEMORY", 7):
        found = SpilledList(first)
        assert list(found) == first
        found.extend(more)
    assert list(found) == list(found) == first + more
