"""Finds images that are nearly the same in different splits, which would bias a test."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

MAX_DISTANCE = 5  # differing bits of the 128 bits of a fingerprint
# Two fingerprints that differ in fewer bits than there are bands agree in at least one band.
_BANDS_PER_WORD, _BAND_BITS = 4, 16
_ROWS_AT_ONCE = 1024
_LISTED_PAIRS = 16  # of the same two fingerprints


@dataclasses.dataclass(frozen=True, order=True)
class NearDuplicate:
    """Two records of different splits whose fingerprints are nearly the same.

    Attributes:
      distance: Number of differing bits.
      first: Name of the first record.
      first_split: Split of the first record.
      second: Name of the second record.
      second_split: Split of the second record.
      pairs: Number of pairs with the same two fingerprints in these splits that this one stands
        for. It is 1 unless there are many, as of blank images.
    """

    distance: int
    first: str
    first_split: str
    second: str
    second_split: str
    pairs: int = 1


def find_near_duplicates(
    prints: Mapping[str, np.ndarray], names: Mapping[str, Sequence[str]]
) -> list[NearDuplicate]:
    """Finds pairs of different splits whose fingerprints differ in at most MAX_DISTANCE bits.

    Equal fingerprints are compared once: of 10,000 blank images there are 25 million pairs.

    Args:
      prints: Split -> fingerprints, uint64 [records, 2].
      names: Split -> names of the records, in the same order.

    Returns:
      The pairs, the nearest first.
    """
    words, split_bits, members = _unique(prints)
    pairs: dict[tuple[int, int], int] = {}
    for index in np.flatnonzero(split_bits & (split_bits - 1)).tolist():
        pairs[index, index] = 0
    for word in range(2):
        for band in range(_BANDS_PER_WORD):
            keys = words[:, word] >> np.uint64(band * _BAND_BITS) & np.uint64(0xFFFF)
            for group in _groups(keys):
                pairs.update(_near(group, words, split_bits))
    return sorted(
        found
        for (one, other), distance in pairs.items()
        for found in _of_different_splits(distance, members[one], members[other], names)
    )


# Split -> indices of the records with some fingerprint.
_Members = dict[str, list[int]]


def _unique(prints: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, list[_Members]]:
    """Returns the different fingerprints, bits of the splits that each is in, and its records."""
    stacked = np.concatenate([np.reshape(of_split, (-1, 2)) for of_split in prints.values()])
    words, inverse = np.unique(stacked, axis=0, return_inverse=True)
    split_bits, members = np.zeros(len(words), np.int64), [{} for _ in words]
    split_of = np.repeat(np.arange(len(prints)), [len(of_split) for of_split in prints.values()])
    np.bitwise_or.at(split_bits, inverse.ravel(), 1 << split_of)
    position = iter(inverse.ravel().tolist())
    for split, of_split in prints.items():
        for index in range(len(of_split)):
            members[next(position)].setdefault(split, []).append(index)
    return words, split_bits, members


def _of_different_splits(
    distance: int, one: _Members, other: _Members, names: Mapping[str, Sequence[str]]
) -> Iterator[NearDuplicate]:
    """Yields the pairs of records with two fingerprints, or one that stands for many of them."""
    order = list(names)
    for a, b in itertools.combinations(order, 2):
        for firsts, seconds in {id(one): (one, other), id(other): (other, one)}.values():
            indices = firsts.get(a, []), seconds.get(b, [])
            count = len(indices[0]) * len(indices[1])
            is_listed = count <= _LISTED_PAIRS
            for i, j in itertools.islice(itertools.product(*indices), None if is_listed else 1):
                yield NearDuplicate(
                    distance, names[a][i], a, names[b][j], b, 1 if is_listed else count
                )


def _groups(keys: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the indices of each key that occurs more than once."""
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order])) + 1
    for group in np.split(order, starts):
        if len(group) > 1:
            yield group


def _near(
    group: np.ndarray, words: np.ndarray, split_bits: np.ndarray
) -> Iterator[tuple[tuple[int, int], int]]:
    of_group = split_bits[group]
    every = np.bitwise_or.reduce(of_group)
    if not every & (every - 1):  # one split
        return
    for start in range(0, len(group), _ROWS_AT_ONCE):
        rows = group[start : start + _ROWS_AT_ONCE]
        differing = np.bitwise_count(words[rows, None] ^ words[None, group]).sum(-1, np.uint16)
        bits = split_bits[rows, None] | of_group[None]
        is_pair = (differing <= MAX_DISTANCE) & (rows[:, None] < group[None])
        is_pair &= (bits & (bits - 1)) != 0
        for row, column in zip(*np.nonzero(is_pair), strict=True):
            yield (int(rows[row]), int(group[column])), int(differing[row, column])
