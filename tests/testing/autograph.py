"""A guard against AutoGraph, which rewrites the source of functions in every process anew.

petseg's graphs are written with TensorFlow's operations. Rewriting them took more than half of a
training's start, and left files in the temporary folder.
"""

import contextlib
from collections.abc import Iterator

import pytest
from tensorflow.python.autograph.pyct import transpiler


@contextlib.contextmanager
def autograph_forbidden() -> Iterator[None]:
    """Within the context a function that AutoGraph would rewrite is an AssertionError."""

    def refuse(_self: object, function: object, *_: object) -> None:
        raise AssertionError(f"AutoGraph rewrites {function}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOGRAPH_STRICT_CONVERSION", "1")  # or the error is swallowed
        patch.setattr(transpiler.GenericTranspiler, "transform_function", refuse)
        yield
