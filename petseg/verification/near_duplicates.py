"""Finds images that are nearly the same in different splits, which would bias a test."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

MAX_DISTANCE = 5  # differing bits of the 128 bits of a fingerprint
# Two fingerprints that differ in fewer bits than there are bands agree in at least one band.
_BANDS_PER_WORD, _BAND_BITS = 4, 16
_ROWS_AT_ONCE = 1024


@dataclasses.dataclass(frozen=True, order=True)
class NearDuplicate:
    """Two records of different splits whose fingerprints are nearly the same.

    Attributes:
      distance: Number of differing bits.
      first: Name of the first record.
      first_split: Split of the first record.
      second: Name of the second record.
      second_split: Split of the second record.
    """

    distance: int
    first: str
    first_split: str
    second: str
    second_split: str


def find_near_duplicates(
    prints: Mapping[str, np.ndarray], names: Mapping[str, Sequence[str]]
) -> list[NearDuplicate]:
    """Finds pairs of different splits whose fingerprints differ in at most MAX_DISTANCE bits.

    Args:
      prints: Split -> fingerprints, uint64 [records, 2].
      names: Split -> names of the records, in the same order.

    Returns:
      The pairs, the nearest first.
    """
    splits = list(prints)
    split_ids = np.concatenate([np.full(len(prints[s]), i) for i, s in enumerate(splits)])
    words = np.concatenate([prints[split] for split in splits]).reshape(-1, 2)
    all_names = [(name, split) for split in splits for name in names[split]]
    pairs: dict[tuple[int, int], int] = {}
    for word in range(2):
        for band in range(_BANDS_PER_WORD):
            keys = words[:, word] >> np.uint64(band * _BAND_BITS) & np.uint64(0xFFFF)
            for group in _groups(keys):
                pairs.update(_near(group, words, split_ids))
    return sorted(
        NearDuplicate(distance, *all_names[first], *all_names[second])
        for (first, second), distance in pairs.items()
    )


def _groups(keys: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the indices of each key that occurs more than once."""
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order])) + 1
    for group in np.split(order, starts):
        if len(group) > 1:
            yield group


def _near(
    group: np.ndarray, words: np.ndarray, split_ids: np.ndarray
) -> Iterator[tuple[tuple[int, int], int]]:
    if (split_ids[group] == split_ids[group[0]]).all():
        return
    for start in range(0, len(group), _ROWS_AT_ONCE):
        rows = group[start : start + _ROWS_AT_ONCE]
        differing = np.bitwise_count(words[rows, None] ^ words[None, group]).sum(-1, np.uint16)
        is_pair = (differing <= MAX_DISTANCE) & (split_ids[rows, None] < split_ids[None, group])
        for row, column in zip(*np.nonzero(is_pair), strict=True):
            yield (int(rows[row]), int(group[column])), int(differing[row, column])
