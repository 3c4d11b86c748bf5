"""Finds images that look alike: copies, other encodings and sizes, small crops, frames of a scene.

Compared are thumbnails. On photographs of pets (358 of them; 300 altered copies of each kind),
re-encoding, halving and brightening changed at most 106 of the 512 bits, cropping by 2% at most
78, by 5% 84 at the median; of 64,000 pairs of different photographs the nearest differed in 144
bits and the most alike correlated by 0.83. Masks of pictures cropped by 5% agreed in 0.83 at least.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from petseg import processes
from petseg.conversion import merged_masks
from petseg.conversion.sources.base import MaskRules, SourceExample, Unreadable
from petseg.data import picture_file
from petseg.data.picture_file import BadFile

Advance = Callable[[], None]

_SIDE = 16
_MOST_BITS = 100  # of 512
_LEAST_CORRELATION = 0.9
_ROWS_AT_ONCE, _COLUMNS_AT_ONCE = 256, 8192  # 16 MiB for a word of all
_MASK_SIDE = 64
_LEAST_AGREEMENT = 0.8
_CHUNK = 64


@dataclasses.dataclass(frozen=True)
class Disagreement:
    """Two images that look alike and whose masks do not.

    Attributes:
      names: The two images.
      agreement: Share of equal pixels, with masks of 64x64 px.
    """

    names: tuple[str, str]
    agreement: float


def find(
    examples: Sequence[SourceExample], *, workers: int, show_progress: bool
) -> list[tuple[int, int]]:
    """Returns the pairs of indices, the smaller first, of images that look alike, in order.

    Two images look alike if 412 of 512 bits are equal, which say whether a cell of a 17x17 grey
    thumbnail is brighter than the one before and the one above, and if their 16x16 thumbnails
    correlate by 0.9. All images are compared with all others. Images of one colour, and those
    that cannot be read, look like none.

    Args:
      examples: The examples.
      workers: Number of processes.
      show_progress: Draw progress bars on standard error.
    """
    thumbnails = _map(_thumbnails, examples, "look-alikes", workers, show_progress)
    known = [index for index, of in enumerate(thumbnails) if of is not None]
    if not known:
        return []
    bits = np.stack([thumbnails[index][0] for index in known])
    greys = np.stack([thumbnails[index][1] for index in known])
    starts = range(0, len(known), _ROWS_AT_ONCE)
    tasks = [starts[first::workers] for first in range(min(workers, len(starts)))]
    found = processes.map_in_processes(
        functools.partial(_compare, bits, greys),
        tasks,
        [len(task) for task in tasks],
        workers=workers,
        what="comparisons",
        show_progress=show_progress,
    )
    return sorted((known[i], known[j]) for pairs in found for i, j in pairs.tolist())


def disagreements(
    examples: Sequence[SourceExample],
    links: Sequence[tuple[int, int]],
    rules: MaskRules,
    *,
    workers: int,
    show_progress: bool,
) -> list[Disagreement]:
    """Returns the look-alikes whose masks agree in less than 0.8 of the pixels, the worst first.

    Args:
      examples: The examples.
      links: From `find`.
      rules: What the masks may contain; those that cannot be converted are not compared.
      workers: Number of processes.
      show_progress: Draw a progress bar on standard error.
    """
    involved = sorted({index for link in links for index in link})
    small = _map(
        functools.partial(_small_masks, rules),
        [examples[index] for index in involved],
        "masks of look-alikes",
        workers,
        show_progress,
    )
    by_index = dict(zip(involved, small, strict=True))
    found = []
    for one, other in links:
        if by_index[one] is not None and by_index[other] is not None:
            agreement = float((by_index[one] == by_index[other]).mean())
            if agreement < _LEAST_AGREEMENT:
                names = (examples[one].name, examples[other].name)
                found.append(Disagreement(names, agreement))
    return sorted(found, key=lambda of: (of.agreement, of.names))


def thumbnail(content: bytes) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns an image's uint64 [8] bits and uint8 [256] grey cells; None for one colour.

    Raises:
      BadFile: It cannot be decoded.
    """
    with picture_file.open_picture(content, "image") as picture:
        if picture_file.is_jpeg(picture):
            picture.draft("L", (4 * _SIDE, 4 * _SIDE))  # decoded at a reduced scale
        grey = picture if picture.mode == "L" else picture_file.to_rgb(picture).convert("L")
        cells = np.asarray(grey.resize((_SIDE + 1, _SIDE + 1), Image.Resampling.BOX))
        pixels = np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.BOX))
    if pixels.min() == pixels.max():
        return None
    across = cells[:_SIDE, 1:] > cells[:_SIDE, :-1]
    down = cells[1:, :_SIDE] > cells[:-1, :_SIDE]
    bits = np.packbits(np.concatenate([across.ravel(), down.ravel()]))
    return bits.view(np.uint64), pixels.ravel()


def _compare(
    bits: np.ndarray, greys: np.ndarray, starts: Sequence[int], advance: Advance
) -> np.ndarray:
    """Returns int64 [n, 2]: the look-alikes of some blocks of rows among the rows after each."""
    found = []
    for start in starts:
        found.append(_compare_block(bits, greys, start))
        advance()
    return np.concatenate(found)


def _compare_block(bits: np.ndarray, greys: np.ndarray, start: int) -> np.ndarray:
    rows, found = bits[start : start + _ROWS_AT_ONCE], []
    for first in range(start, len(bits), _COLUMNS_AT_ONCE):
        columns = bits[first : first + _COLUMNS_AT_ONCE]
        different = np.zeros((len(rows), len(columns)), np.uint16)
        for word in range(bits.shape[1]):
            different += np.bitwise_count(rows[:, word, None] ^ columns[None, :, word])
        near = np.argwhere(different <= _MOST_BITS) + np.array([start, first])
        near = near[near[:, 0] < near[:, 1]]
        found.append(near[_correlate(greys, near)])
    return np.concatenate(found)


def _correlate(greys: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Returns bool [n]. Sums are of integers, so that no machine rounds them otherwise."""
    alike = []
    for part in np.array_split(pairs, len(pairs) // 65536 + 1):
        one, other = (greys[part[:, side]].astype(np.int64) for side in (0, 1))
        cells = greys.shape[1]
        common = cells * (one * other).sum(1) - one.sum(1) * other.sum(1)
        spreads = [cells * (of * of).sum(1) - of.sum(1) ** 2 for of in (one, other)]
        scale = np.sqrt(spreads[0].astype(np.float64)) * np.sqrt(spreads[1].astype(np.float64))
        alike.append(common >= _LEAST_CORRELATION * scale)
    return np.concatenate(alike)


def _map(
    function: Callable,
    examples: Sequence[SourceExample],
    what: str,
    workers: int,
    show_progress: bool,
) -> list:
    """Calls a function for runs of examples on several processes; returns all its results."""
    chunks = [examples[start : start + _CHUNK] for start in range(0, len(examples), _CHUNK)]
    results = processes.map_in_processes(
        function,
        chunks,
        [len(chunk) for chunk in chunks],
        workers=workers,
        what=what,
        show_progress=show_progress,
    )
    return [result for chunk in results for result in chunk]


def _thumbnails(examples: Sequence[SourceExample], advance: Advance) -> list:
    results = []
    for example in examples:
        try:
            results.append(thumbnail(example.pair.read()[0]))
        except (BadFile, Unreadable):  # conversion will say why
            results.append(None)
        advance()
    return results


def _small_masks(rules: MaskRules, examples: Sequence[SourceExample], advance: Advance) -> list:
    """Returns uint8 [64, 64] raw labels of each mask, or None."""
    results = []
    for example in examples:
        labels = None
        if checked := merged_masks.check_example(example, rules):
            labels = merged_masks.decode_labels(checked)
            rows, columns = (
                (np.arange(_MASK_SIDE) * 2 + 1) * size // (2 * _MASK_SIDE) for size in labels.shape
            )
            labels = labels[rows[:, None], columns]
        results.append(labels)
        advance()
    return results
