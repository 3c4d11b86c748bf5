"""A device without enough memory, in one line that names the remedy."""

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

from petseg.errors import FaultFound

# TensorFlow has no kind of its own for it: a full disk is a ResourceExhaustedError too, and a
# copy to a full GPU an InternalError.
_EXHAUSTED = re.compile(
    r"OOM when|out of memory|failed to allocate|CUDNN_STATUS_ALLOC_FAILED"
    r"|Dst tensor is not initialized",
    re.IGNORECASE,
)
_MOST_CHARACTERS = 200


@contextlib.contextmanager
def exhaustion_in_one_line(remedy: str) -> Iterator[None]:
    """Turns TensorFlow's errors of exhausted memory into FaultFound; `remedy` says what helps."""
    try:
        yield
    except tf.errors.OpError as error:
        if not _EXHAUSTED.search(error.message):
            raise
        reason = " ".join(error.message.split())[:_MOST_CHARACTERS]
        raise FaultFound(f"the device's memory does not suffice; {remedy} ({reason})") from error
