import dataclasses

from petseg.conversion import spill
from petseg.conversion.sources.base import SourceExample
from petseg.conversion.unique_names import UniqueNames


def test_duplicate_names_get_their_split_and_index(monkeypatch):
    example = SourceExample("a", "train", pair=None)
    other = dataclasses.replace(example, name="b")
    for in_memory in (100, 2):
        monkeypatch.setattr(spill, "IN_MEMORY", in_memory)
        examples = UniqueNames()
        for one in (example, other, example):
            examples.add(one)
        assert len(examples) == 3
        for _ in range(2):
            assert {e.name for e in examples} == {"train-0000000-a", "b", "train-0000002-a"}


def test_a_renamed_example_takes_no_other_name():
    names = ["a", "train-0000002-a", "a", "train-0000000-train-0000000-a"]
    examples = UniqueNames()
    for name in names:
        examples.add(SourceExample(name, "train", pair=None))
    found = [e.name for e in examples]
    assert len(set(found)) == 4
    assert set(found) >= {names[1], names[3]}
