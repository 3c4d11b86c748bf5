import tracemalloc

import numpy as np

from petseg.verification.near_duplicates import NearDuplicate, find_near_duplicates


def names_of(prints):
    return {split: [f"{split}{i}" for i in range(len(p))] for split, p in prints.items()}


def test_many_blank_images_are_one_line_in_little_memory():
    prints = {split: np.zeros((2000, 2), np.uint64) for split in ("train", "validation", "test")}
    prints["train"][7] = [1 << 63, 1]  # two bits from blank, in one image
    prints["test"][3] = prints["train"][5] = [1 << 40, 0x123456789ABCDEF]
    tracemalloc.start()
    found = find_near_duplicates(prints, names_of(prints))
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()
    assert found == [
        NearDuplicate(0, "train0", "train", "test0", "test", 1998 * 1999),
        NearDuplicate(0, "train0", "train", "validation0", "validation", 1998 * 2000),
        NearDuplicate(0, "train5", "train", "test3", "test"),
        NearDuplicate(0, "validation0", "validation", "test0", "test", 2000 * 1999),
        NearDuplicate(2, "train7", "train", "test0", "test", 1999),
        NearDuplicate(2, "train7", "train", "validation0", "validation", 2000),
    ]


def test_a_few_equal_images_are_listed_pair_by_pair():
    prints = {"train": np.full((3, 2), 9, np.uint64), "test": np.full((2, 2), 9, np.uint64)}
    assert find_near_duplicates(prints, names_of(prints)) == [
        NearDuplicate(0, f"train{i}", "train", f"test{j}", "test")
        for i in range(3)
        for j in range(2)
    ]


def test_equal_images_of_one_split_are_no_leak():
    rng = np.random.default_rng(3)
    prints = {"train": np.zeros((50, 2), np.uint64), "test": rng.integers(0, 1 << 63, (9, 2))}
    prints["test"] = prints["test"].astype(np.uint64)
    assert find_near_duplicates(prints, names_of(prints)) == []
