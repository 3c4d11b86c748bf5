"""The plan of a conversion: every example, on disk, in the order in which it will be stored.

The order is that of the names' hashes. Examples are sorted by buckets of hashes, of which one at a
time is in memory, so that planning takes as much memory for ten million names as for some ten
thousand. Workers read the examples of their shard from the plan.
"""

import collections
import dataclasses
import itertools
import pickle
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
from etils import epath

from petseg.conversion import spill
from petseg.conversion.choices import SPLITS
from petseg.conversion.sources.base import SourceExample
from petseg.conversion.spill import Buckets
from petseg.data import manifest
from petseg.errors import UserError, shown

_TOGETHER = 64  # examples that are read at once
_INDEX, _EXAMPLES = ".index", ".examples"

# A name's hash, and the example.
Hashed = tuple[bytes, SourceExample]


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """Consecutive examples of a bucket.

    Attributes:
      path: The bucket's files, without suffix.
      first: Index of the first example.
      count: Number of examples.
    """

    path: str
    first: int
    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard to write, or a part of one.

    Attributes:
      name: Name of the file.
      runs: Its examples, in order.
      is_whole: Whether these are all examples of the shard.
    """

    name: str
    runs: tuple[Run, ...]
    is_whole: bool = True

    @property
    def records(self) -> int:
        """The number of examples."""
        return sum(run.count for run in self.runs)

    def examples(self) -> Iterator[SourceExample]:
        """Reads the examples."""
        for run in self.runs:
            yield from _read_examples(run)

    def parts(self, count: int) -> list["ShardTask"]:
        """Cuts the examples into runs that several workers can prepare in parallel."""
        size = max(-(-self.records // count), 1)
        return [
            ShardTask(self.name, _cut(self.runs, start, size), size >= self.records)
            for start in range(0, self.records, size)
        ]


class Plan:
    """The examples of a data set, sorted, in a folder that `make_plan` has filled.

    Attributes:
      splits: The splits that have examples, in the order of SPLITS.
    """

    def __init__(self, folder: str):
        """Opens a plan; reads the buckets' names alone."""
        buckets = collections.defaultdict(list)
        for path in sorted(map(str, epath.Path(folder).iterdir())):
            if path.endswith(_INDEX):
                buckets[path.rpartition("/")[2].split("-")[0]].append(path.removesuffix(_INDEX))
        self._buckets = {split: buckets[split] for split in SPLITS if split in buckets}
        self.splits = tuple(self._buckets)

    def examples(self, split: str) -> Iterator[SourceExample]:
        """Reads a split's examples in order."""
        for path in self._buckets[split]:
            sizes, _ = _read_index(path)
            yield from _read_examples(Run(path, 0, len(sizes)))

    def first(self, count: int) -> list[SourceExample]:
        """Reads the first examples, of the first splits; the order is one by chance."""
        every = itertools.chain.from_iterable(map(self.examples, self.splits))
        return list(itertools.islice(every, count))

    @property
    def records(self) -> int:
        """The number of examples."""
        return sum(len(sizes) for split in self.splits for _, sizes in self._sizes(split))

    def bytes(self, split: str) -> int:
        """The size of a split's inputs, in bytes."""
        return sum(int(sizes.sum()) for _, sizes in self._sizes(split))

    def tasks(self, split: str, name: str, source_bytes_per_shard: float) -> list[ShardTask]:
        """Cuts a split into shards of nearly equal size, none empty.

        Args:
          split: The split.
          name: The first part of the shards' file names.
          source_bytes_per_shard: The approximate size of a shard's inputs.
        """
        total, records = self.bytes(split), sum(len(sizes) for _, sizes in self._sizes(split))
        count = max(1, round(min(total / source_bytes_per_shard, records)))
        runs: dict[int, list[Run]] = {}
        start = 0
        for path, sizes in self._sizes(split):
            # By the middle of each example; with whole numbers, so that every machine agrees.
            middles = 2 * (start + np.cumsum(sizes)) - sizes
            shards = [min(int(m) * count // max(2 * total, 1), count - 1) for m in middles]
            first = 0
            for shard, group in itertools.groupby(shards):
                size = sum(1 for _ in group)
                runs.setdefault(shard, []).append(Run(path, first, size))
                first += size
            start += int(sizes.sum())
        # An example larger than a shard leaves shards empty; these are not counted.
        return [
            ShardTask(manifest.shard_name(name, split, index, len(runs)), tuple(runs[shard]))
            for index, shard in enumerate(sorted(runs))
        ]

    def _sizes(self, split: str) -> Iterator[tuple[str, np.ndarray]]:
        for path in self._buckets[split]:
            yield path, _read_index(path)[0]


def make_plan(examples: Iterable[SourceExample], folder: str) -> Plan:
    """Sorts examples and writes them to a folder.

    Args:
      examples: The examples, in any order.
      folder: An empty folder, local or remote.

    Raises:
      UserError: Two examples have the same name.
    """
    buckets: Buckets[SourceExample] = Buckets()
    for example in examples:
        buckets.add(spill.hash_of(example.name), example)
    for number, items in buckets:
        write_bucket(folder, number, items)
    return Plan(folder)


def write_bucket(folder: str, bucket: int, items: Iterable[Hashed]) -> None:
    """Sorts all examples of a bucket by their hashes and writes them to a plan's folder.

    Raises:
      UserError: Two of them have the same name.
    """
    by_split: dict[str, list[SourceExample]] = {}
    before = None
    for name_hash, example in sorted(items, key=lambda item: item[0]):
        if name_hash == before:
            raise UserError(
                f"the source lists two examples called {shown(example.name)!r}; names of examples "
                "must differ"
            )
        by_split.setdefault(example.split, []).append(example)
        before = name_hash
    for split, examples in by_split.items():
        _write(f"{folder}/{split}-{bucket:05d}", examples)


def excluding(plan: Plan, names: Collection[str], folder: str) -> Plan:
    """Writes a plan of the same examples without those of some names, in order of hashes."""
    for split in plan.splits:
        left = (e for e in plan.examples(split) if shown(e.name) not in names)
        for index in itertools.count():
            if not (some := list(itertools.islice(left, spill.IN_MEMORY))):
                break
            _write(f"{folder}/{split}-{index:05d}", some)
    return Plan(folder)


def _write(path: str, examples: Sequence[SourceExample]) -> None:
    offsets = [0]
    with epath.Path(path + _EXAMPLES).open("wb") as file:
        for start in range(0, len(examples), _TOGETHER):
            content = pickle.dumps(examples[start : start + _TOGETHER], pickle.HIGHEST_PROTOCOL)
            file.write(content)
            offsets.append(offsets[-1] + len(content))
    sizes = [example.pair.bytes for example in examples]
    index = np.array([len(sizes), *sizes, *offsets], np.int64)
    epath.Path(path + _INDEX).write_bytes(index.tobytes())


def _read_index(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the examples' sizes in bytes, and where each group of them begins and ends."""
    index = np.frombuffer(epath.Path(path + _INDEX).read_bytes(), np.int64)
    return index[1 : index[0] + 1], index[index[0] + 1 :]


def _read_examples(run: Run) -> Iterator[SourceExample]:
    _, offsets = _read_index(run.path)
    end = run.first + run.count
    with epath.Path(run.path + _EXAMPLES).open("rb") as file:
        file.seek(int(offsets[run.first // _TOGETHER]))
        for start in range(run.first // _TOGETHER * _TOGETHER, end, _TOGETHER):
            group = start // _TOGETHER
            together = pickle.loads(file.read(int(offsets[group + 1] - offsets[group])))
            yield from together[max(run.first - start, 0) : end - start]


def _cut(runs: Sequence[Run], first: int, count: int) -> tuple[Run, ...]:
    """Returns the runs of `count` examples from the `first` on."""
    cut = []
    for run in runs:
        start, end = max(first, 0), min(first + count, run.count)
        if start < end:
            cut.append(Run(run.path, run.first + start, end - start))
        first -= run.count
    return tuple(cut)
