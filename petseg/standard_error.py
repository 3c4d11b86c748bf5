"""Holds back what C++ libraries print to standard error, past Python's streams."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


def open_if_closed() -> None:
    """Opens standard input, output and error to nowhere if they are closed, as services leave them.

    Otherwise the next file that is opened would get their number, and with it the lines that
    libraries print.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def unnamed_file() -> int:
    """Opens a file for what libraries print, in memory where the system can; its descriptor.

    A container may have no folder for temporary files.
    """
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):  # forbidden by some sandboxes
            return os.memfd_create("petseg")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Holds back everything that is written to file descriptor 2, unless an error is raised.

    With TF_CPP_MIN_LOG_LEVEL=0 in the environment nothing is held back.
    """
    open_if_closed()
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with os.fdopen(unnamed_file(), "r+b") as held:
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
