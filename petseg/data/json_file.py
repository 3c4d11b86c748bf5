"""Reads JSON that petseg wrote, checked as a whole: every field, its type and its range.

A schema is a dataclass with annotated types, or a plain type such as dict[str, float]; pydantic
compares (docs/decisions/004). What is wrong becomes one line that says where it stands.
"""

import dataclasses
import functools
from typing import Annotated, Any, TypeVar

import pydantic
from etils import epath

from petseg.data import regular_file
from petseg.errors import shown

T = TypeVar("T")

# No conversion of types, no unknown field, no NaN or infinity.
STRICT = pydantic.ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

MAX_FILE_BYTES = 1 << 30  # 1 GiB
_MAX_COUNT = 1 << 53  # every count up to it is a float, too
_SHOWN_CHARACTERS = 40

Count = Annotated[int, pydantic.Field(ge=0, le=_MAX_COUNT)]
Byte = Annotated[int, pydantic.Field(ge=0, le=255)]
Sha256 = Annotated[str, pydantic.Field(pattern="^[0-9a-f]{64}$")]


def parse(content: str | bytes, schema: type[T]) -> T:
    """Reads a value of a schema's type; a dataclass brings a pydantic config, such as STRICT.

    Raises:
      ValueError: It is no JSON, or does not fit; one line.
    """
    try:
        if isinstance(content, str):
            content = content.encode()
        return _adapter(schema).validate_json(content)
    except UnicodeEncodeError as error:
        raise ValueError("it holds half of a surrogate pair, which is no text") from error
    except pydantic.ValidationError as error:
        raise ValueError(_first_fault(error)) from error


def read(path: epath.PathLike, schema: type[T]) -> T:
    """Reads a file; see `parse` and `read_bytes`."""
    return parse(read_bytes(path), schema)


def read_bytes(path: epath.PathLike) -> bytes:
    """Reads a file whole.

    Raises:
      ValueError: It cannot be read, is no regular file, or has more than MAX_FILE_BYTES.
      FileNotFoundError: It does not exist.
    """
    try:
        if "://" in str(path):
            return epath.Path(path).read_bytes()
        with regular_file.open_regular(str(path), MAX_FILE_BYTES) as file:
            return file.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error


@functools.cache
def _adapter(schema: Any) -> pydantic.TypeAdapter:  # noqa: ANN401  (a type, or a generic alias)
    config = None if dataclasses.is_dataclass(schema) else STRICT  # a dataclass brings its own
    return pydantic.TypeAdapter(schema, config=config)


def _first_fault(error: pydantic.ValidationError) -> str:
    fault = error.errors(include_url=False, include_context=False)[0]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"])
    message = fault["msg"].removeprefix("Value error, ")
    if not where:
        return message.replace("Input ", "it ")
    message = message.removeprefix("Input ")
    value = repr(fault["input"])
    if len(value) > _SHOWN_CHARACTERS:
        value = f"{value[:_SHOWN_CHARACTERS]}..."
    return f"{shown(where.removeprefix('.'))}: {message}, not {value}"
