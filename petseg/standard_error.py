"""Holds back what C++ libraries print to standard error, past Python's streams."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Holds back everything that is written to file descriptor 2, unless an error is raised.

    With TF_CPP_MIN_LOG_LEVEL=0 in the environment nothing is held back.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def import_tensorflow() -> None:
    """Imports TensorFlow without the lines that its libraries print while they load.

    TensorFlow 2.21 writes several lines to file descriptor 2 whatever TF_CPP_MIN_LOG_LEVEL
    says. Set that variable to 0 to see them.
    """
    if "tensorflow" in sys.modules:
        return
    with held_back():
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            # Refused once a GPU is in use, so it must come first.
            tf.config.experimental.set_memory_growth(gpu, True)
