"""Examples whose names may be duplicated in their source, as records' are."""

import collections
import dataclasses
import hashlib
from collections.abc import Iterator

from petseg.conversion.sources.base import SourceExample
from petseg.conversion.spill import Buckets


class UniqueNames:
    """Examples, each with a name of its own; iterating gives them, as often as wanted."""

    def __init__(self):
        """Begins without examples; see spill.Buckets."""
        self._buckets: Buckets[tuple[int, SourceExample]] = Buckets()
        self._count = 0

    def add(self, example: SourceExample) -> None:
        """Adds the next example of the source."""
        digest = hashlib.sha256(example.name.encode(errors="surrogateescape")).digest()
        self._buckets.add(digest, (self._count, example))
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[SourceExample]:
        """Yields all, with split and index before duplicate names; the source gives both."""
        for _, items in self._buckets:
            count = collections.Counter(example.name for _, (_, example) in items)
            for _, (index, example) in items:
                if count[example.name] > 1:
                    name = f"{example.split}-{index:07d}-{example.name}"
                    yield dataclasses.replace(example, name=name)
                else:
                    yield example
