"""Saving and restoring every variable of a run under its own name."""

import re
from collections.abc import Iterable

import keras
import tensorflow as tf
from etils import epath

from petseg.errors import UserError

FOLDER = "checkpoints"
_INDEX = re.compile(r"ckpt-(\d+)\.index")


def make_checkpoint(variables: Iterable[keras.Variable]) -> tf.train.Checkpoint:
    """A checkpoint of variables by path, whatever objects hold them."""
    return tf.train.Checkpoint(variables={v.path: v.value for v in variables})


def save(checkpoint: tf.train.Checkpoint, workdir: str, step: int, keep: int) -> None:
    """Saves RUN/checkpoints/ckpt-STEP and keeps the `keep` latest up to it.

    A later one is what a run left behind that could not be restored: it must not push
    out the one just saved.
    """
    folder = epath.Path(workdir) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.write(str(folder / f"ckpt-{step}"))
    for old in [saved for saved in saved_steps(workdir) if saved <= step][:-keep]:
        # The index goes first: without it a checkpoint is not seen at all.
        for path in sorted(folder.glob(f"ckpt-{old}.*"), reverse=True):
            path.unlink()


def saved_steps(workdir: str) -> list[int]:
    """The steps at which checkpoints stand in a run folder, in order."""
    folder = epath.Path(workdir) / FOLDER
    if not folder.is_dir():
        return []
    found = (_INDEX.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match.group(1)) for match in found if match)


def restore_newest(checkpoint: tf.train.Checkpoint, workdir: str) -> tuple[int, list[str]]:
    """Restores the newest checkpoint that can be read.

    Args:
      checkpoint: of every variable to restore; what else a file holds is left.
      workdir: the run.

    Returns:
      The step, and one line for each newer checkpoint that was skipped.

    Raises:
      UserError: there is none, or none can be read.
    """
    steps = saved_steps(workdir)
    skipped = []
    for step in reversed(steps):
        path = str(epath.Path(workdir) / FOLDER / f"ckpt-{step}")
        try:
            # A reader that only wants the model leaves the optimizer's state in the file.
            checkpoint.read(path).assert_existing_objects_matched().expect_partial()
            return step, skipped
        # A file that is cut short comes as IndexError, another model's as ValueError.
        except (tf.errors.OpError, AssertionError, ValueError, IndexError) as error:
            reason = " ".join(str(getattr(error, "message", error)).split())[:200]
            skipped.append(f"{path} cannot be restored: {reason}")
    if not steps:
        raise UserError(f"--workdir={workdir} holds no checkpoint; train first")
    raise UserError(f"--workdir={workdir}: no checkpoint can be restored; {skipped[0]}")
