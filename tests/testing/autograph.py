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
    """Within the context a function of petseg that AutoGraph rewrites is an AssertionError."""
    transform = transpiler.GenericTranspiler.transform_function

    def refuse(self: object, function: object, *arguments: object) -> object:
        if function.__module__.startswith("petseg."):
            raise AssertionError(f"AutoGraph rewrites {function}")
        return transform(self, function, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOGRAPH_STRICT_CONVERSION", "1")  # or the error is swallowed
        patch.setattr(transpiler.GenericTranspiler, "transform_function", refuse)
        yield
