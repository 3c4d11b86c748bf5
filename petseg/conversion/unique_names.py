"""Examples whose names may be duplicated in their source, as records' are."""

import collections
import dataclasses
import re
from collections.abc import Iterator

from petseg.conversion import spill
from petseg.conversion.sources.base import SourceExample
from petseg.conversion.spill import Buckets

_PREFIX = re.compile(r"(?:(?:train|validation|test|record)-\d{7,}-)+(?=.)")


class UniqueNames:
    """Examples, each with a name of its own; iterating gives them, as often as wanted."""

    def __init__(self):
        """Begins without examples; see spill.Buckets."""
        self._buckets: Buckets[tuple[int, SourceExample]] = Buckets()
        self._count = 0

    def add(self, example: SourceExample) -> None:
        """Adds the next example of the source."""
        # By what follows a prefix, so that all names that renaming could meet are together.
        stem = _PREFIX.sub("", example.name, count=1)
        digest = spill.hash_of(stem)
        self._buckets.add(digest, (self._count, example))
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[SourceExample]:
        """Yields all, with split and index before duplicate names; the source gives both."""
        for _, items in self._buckets:
            count = collections.Counter(example.name for _, (_, example) in items)
            taken = set(count)
            for _, (index, example) in items:
                if count[example.name] == 1:
                    yield example
                    continue
                name = example.name
                while name in taken:
                    name = f"{example.split or 'record'}-{index:07d}-{name}"
                taken.add(name)
                yield dataclasses.replace(example, name=name)
