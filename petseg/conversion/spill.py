"""Collections that move to a local disk when they outgrow memory."""

import collections
import hashlib
import pickle
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

IN_MEMORY = 20_000  # items
_BUCKETS = 1024
_BATCH = 1000


def hash_of(text: str) -> bytes:
    """Returns the SHA-256 of a text, such as a name or a path that need not be valid Unicode."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


def bucket_of(digest: bytes) -> int:
    """Returns a hash's bucket; buckets are in the order of the hashes."""
    return int.from_bytes(digest[:2]) * _BUCKETS >> 16


class Buckets(Generic[T]):
    """Items with hashes, which come back bucket by bucket, as often as wanted.

    All items of one hash are in one bucket, and the buckets are in the order of the hashes: few
    items are a single one, in memory; more are many, of which one at a time is in memory.
    """

    def __init__(self):
        """Begins without items; beyond IN_MEMORY of them they go to disk."""
        self._items: list[tuple[bytes, T]] = []
        self._folder: tempfile.TemporaryDirectory | None = None

    def add(self, digest: bytes, item: T) -> None:
        """Adds an item with its hash."""
        self._items.append((digest, item))
        if len(self._items) >= IN_MEMORY:
            self._spill()

    def __iter__(self) -> Iterator[tuple[int, list[tuple[bytes, T]]]]:
        """Yields the number of each bucket, and its hashes and items in the order of adding."""
        if not self._folder:
            if self._items:
                yield 0, self._items
            return
        self._spill()
        for path in sorted(Path(self._folder.name).iterdir()):
            yield int(path.name), list(_read(path))

    def _spill(self) -> None:
        self._folder = self._folder or tempfile.TemporaryDirectory()
        by_bucket = collections.defaultdict(list)
        for digest, item in self._items:
            by_bucket[bucket_of(digest)].append((digest, item))
        for bucket, items in by_bucket.items():
            with (Path(self._folder.name) / f"{bucket:05d}").open("ab") as file:
                pickle.dump(items, file, pickle.HIGHEST_PROTOCOL)
        self._items = []


class SpilledList(Generic[T]):
    """A list that one can only append to and iterate over; most of a long one is on disk."""

    def __init__(self, items: Iterable[T] = ()):
        """Begins with some items; beyond IN_MEMORY of them they go to disk."""
        self._items: list[T] = []
        self._folder: tempfile.TemporaryDirectory | None = None
        self.extend(items)

    def append(self, item: T) -> None:
        """Adds an item."""
        self._items.append(item)
        if len(self._items) >= IN_MEMORY:
            self._folder = self._folder or tempfile.TemporaryDirectory()
            with self._path().open("ab") as file:
                for start in range(0, len(self._items), _BATCH):
                    pickle.dump(self._items[start : start + _BATCH], file)
            self._items = []

    def extend(self, items: Iterable[T]) -> None:
        """Adds several items."""
        for item in items:
            self.append(item)

    def __iter__(self) -> Iterator[T]:
        if self._folder:
            yield from _read(self._path())
        yield from self._items

    def _path(self) -> Path:
        return Path(self._folder.name) / "items"


def _read(path: Path) -> Iterator:
    with path.open("rb") as file:
        while True:
            try:
                yield from pickle.load(file)
            except EOFError:
                return
