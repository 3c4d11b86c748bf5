"""Names of what settings choose."""

import pytest

from petseg.errors import UserError
from petseg.registry import Registry


def test_a_name_belongs_to_one_item_unless_it_is_replaced():
    codecs: Registry = Registry("codec", {"json": "json:dumps"})
    codecs.register("mine", 1)
    codecs.register("mine", 1)  # the module that registers it may be imported twice
    for name in ("mine", "json"):
        with pytest.raises(ValueError, match=f"already a codec called '{name}'"):
            codecs.register(name, 2)
    codecs.register("mine", 2, replace=True)
    assert codecs.get("mine") == 2
    assert codecs.get("json")([1]) == "[1]"
    assert list(codecs) == ["json", "mine"]


def test_an_unknown_name_is_answered_with_the_known_ones():
    codecs: Registry = Registry("codec", {"json": "json:dumps"})
    with pytest.raises(UserError, match="codec 'yaml' is not one of json"):
        codecs.get("yaml")
