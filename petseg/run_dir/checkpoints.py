"""Checkpoints that are complete or absent, each with metadata.

    RUN/checkpoints/ckpt-STEP/variables.index, variables.data-00000-of-00001
    RUN/checkpoints/ckpt-STEP/checkpoint.json

A checkpoint is written under a temporary name and then renamed. Its metadata holds the SHA-256
of its files and of itself: TensorFlow's checksums cover the tensors, but a flipped bit of the
index may pass them.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping

import pydantic
import tensorflow as tf
from etils import epath

from petseg import paths
from petseg.data import json_file, shard_hashes
from petseg.data.json_file import Count, Sha256
from petseg.errors import UserError

FOLDER = "checkpoints"
_METADATA = "checkpoint.json"
_PREFIX = "variables"
_NAME = re.compile(r"ckpt-(0|[1-9][0-9]{0,15})")
_INDEX = f"{_PREFIX}.index"
_UNFINISHED = "unfinished-"
# A truncated file raises IndexError, that of another model ValueError.
_UNREADABLE = (OSError, tf.errors.OpError, AssertionError, ValueError, IndexError)


@dataclasses.dataclass(frozen=True)
class CheckpointMetadata:
    """The content of checkpoint.json.

    Attributes:
      step: Number of training steps so far.
      run: What the model and its data are: names and values that JSON can hold.
      curve_sums: Sums of the training curves since their last point, and 'steps', their number.
      metrics: Metrics of the evaluation at this step, by name; empty before it.
      sha256: SHA-256 of the other files, by name.
    """

    step: Count
    run: dict[str, pydantic.JsonValue]
    curve_sums: dict[str, int | float]
    metrics: dict[str, int | float]
    sha256: dict[str, Sha256] = dataclasses.field(default_factory=dict)


# A loss may have become NaN.
@pydantic.with_config({**json_file.STRICT, "allow_inf_nan": True})
@dataclasses.dataclass(frozen=True)
class _Stored(CheckpointMetadata):
    """The content of checkpoint.json, with the SHA-256 of the rest."""

    sha256_of_metadata: Sha256 = ""


def save(variables: Mapping[str, tf.Variable], run_dir: str, metadata: CheckpointMetadata) -> None:
    """Writes RUN/checkpoints/ckpt-STEP, which does not appear before it is complete.

    Args:
      variables: By the names that they get in the checkpoint.
      run_dir: The run folder.
      metadata: Its metadata, without `sha256`.

    Raises:
      OSError, tf.errors.OpError: It cannot be written; what was begun is removed.
    """
    folder = epath.Path(run_dir) / FOLDER
    final, unfinished = folder / f"ckpt-{metadata.step}", folder / f"{_UNFINISHED}{metadata.step}"
    _remove(unfinished)
    unfinished.mkdir(parents=True)
    try:
        tf.train.Checkpoint(variables=dict(variables)).write(str(unfinished / _PREFIX))
        hashes = _hash_files(unfinished)
        _write_metadata(unfinished / _METADATA, dataclasses.replace(metadata, sha256=hashes))
        # An existing one is damaged, or the same run was here before.
        _remove(final)
        unfinished.rename(final)
    except BaseException:
        _remove(unfinished)
        raise


def add_metrics(run_dir: str, step: int, metrics: Mapping[str, float]) -> None:
    """Adds metrics to the metadata of a checkpoint, if it exists."""
    path = epath.Path(run_dir) / FOLDER / f"ckpt-{step}" / _METADATA
    if not path.exists():
        return
    metadata = dataclasses.replace(read_metadata(run_dir, step), metrics=dict(metrics))
    temporary = path.with_name(_METADATA + ".tmp")
    _write_metadata(temporary, metadata)
    temporary.replace(path)


def remove_old(run_dir: str, step: int, keep: int, best_metric: str) -> None:
    """Removes all but the `keep` latest checkpoints up to a step and the best one.

    A later one could not be restored: it must not displace the one just saved.
    """
    steps = [saved for saved in saved_steps(run_dir) if saved <= step]
    best = best_step(run_dir, best_metric)
    for old in steps[:-keep]:
        if old != best:
            _remove(epath.Path(run_dir) / FOLDER / f"ckpt-{old}")


def remove_unfinished(run_dir: str) -> None:
    """Removes what a killed run had begun to write."""
    folder = epath.Path(run_dir) / FOLDER
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name.startswith(_UNFINISHED):
                _remove(path)


def saved_steps(run_dir: str) -> list[int]:
    """The steps of the checkpoints in a run folder, in ascending order."""
    folder = epath.Path(run_dir) / FOLDER
    if not folder.is_dir():
        return []
    found = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match.group(1)) for match in found if match)


def best_step(run_dir: str, metric: str) -> int | None:
    """The step with the best value of a metric, the earliest of equals; None if none has it."""
    best, found = -math.inf, None
    for step, metadata in _readable(run_dir).items():
        value = metadata.metrics.get(metric)
        if value is not None and value > best:
            best, found = value, step
    return found


def newest_step(run_dir: str) -> int | None:
    """The step of the newest checkpoint whose metadata can be read; None if there is none."""
    return max(_readable(run_dir), default=None)


def _readable(run_dir: str) -> dict[int, CheckpointMetadata]:
    """The metadata that can be read, by step, in ascending order."""
    found = {}
    for step in saved_steps(run_dir):
        with contextlib.suppress(OSError, ValueError):
            found[step] = read_metadata(run_dir, step)
    return found


def read_metadata(run_dir: str, step: int) -> CheckpointMetadata:
    """Reads a checkpoint's metadata.

    Raises:
      OSError: It does not exist.
      ValueError: It is damaged.
    """
    path = epath.Path(run_dir) / FOLDER / f"ckpt-{step}" / _METADATA
    try:
        content = vars(json_file.read(path, _Stored)).copy()
    except ValueError as error:
        raise ValueError(f"{_METADATA} is damaged: {error}") from error
    digest = content.pop("sha256_of_metadata")
    metadata = CheckpointMetadata(**content)
    if digest != _hash_metadata(metadata):
        raise ValueError(f"{_METADATA} is damaged: it differs from its SHA-256")
    if metadata.step != step:
        raise ValueError(f"{_METADATA} belongs to step {metadata.step}")
    return metadata


def newest_readable(run_dir: str) -> tuple[int, list[str]]:
    """Finds the newest checkpoint whose every byte can be read.

    Returns:
      Its step, and one line for each newer one that was skipped.

    Raises:
      UserError: There is none, or none can be read.
    """
    skipped: list[str] = []
    for step in reversed(saved_steps(run_dir)):
        path = epath.Path(run_dir) / FOLDER / f"ckpt-{step}"
        try:
            _check_whole(path, read_metadata(run_dir, step))
            return step, skipped
        except _UNREADABLE as error:
            skipped.append(f"{path} cannot be restored: {_reason(error)}")
    if not skipped:
        raise UserError(f"--workdir={run_dir} holds no checkpoint; train first")
    raise UserError(f"--workdir={run_dir}: no checkpoint can be restored; {skipped[0]}")


def restore(variables: Mapping[str, tf.Variable], run_dir: str, step: int) -> CheckpointMetadata:
    """Restores variables by name; the rest of the checkpoint is ignored.

    Raises:
      UserError: It cannot be read, or lacks one of the variables.
    """
    path = epath.Path(run_dir) / FOLDER / f"ckpt-{step}"
    try:
        metadata = read_metadata(run_dir, step)
        _check_whole(path, metadata)
        with paths.literal(path) as folder:
            status = tf.train.Checkpoint(variables=dict(variables)).read(str(folder / _PREFIX))
        # A reader of the model alone leaves the optimizer's state in the file.
        status.assert_existing_objects_matched().expect_partial()
        return metadata
    except _UNREADABLE as error:
        raise UserError(f"{path} cannot be restored: {_reason(error)}") from error


def _check_whole(folder: epath.Path, metadata: CheckpointMetadata) -> None:
    found = _hash_files(folder)
    if missing := {_INDEX, *metadata.sha256} - found.keys():
        raise ValueError(f"{min(missing)} is missing")
    if unknown := found.keys() - metadata.sha256.keys():
        raise ValueError(f"{min(unknown)} is not in {_METADATA}")
    for name, digest in metadata.sha256.items():
        if found[name] != digest:
            raise ValueError(f"{name} differs from its SHA-256")


def _hash_files(folder: epath.Path) -> dict[str, str]:
    """SHA-256 of a checkpoint's files, without its metadata."""
    found = {}
    for path in folder.iterdir():
        if path.name.startswith(_PREFIX):
            found[path.name] = shard_hashes.sha256_of_file(path)
    return found


def _write_metadata(path: epath.Path, metadata: CheckpointMetadata) -> None:
    content = {**dataclasses.asdict(metadata), "sha256_of_metadata": _hash_metadata(metadata)}
    path.write_text(json.dumps(content, indent=1) + "\n")


def _hash_metadata(metadata: CheckpointMetadata) -> str:
    text = json.dumps(dataclasses.asdict(metadata), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "message", error)).split())[:200]


def _remove(folder: epath.Path) -> None:
    """Removes a checkpoint so that no half of it keeps its name."""
    if folder.exists():
        renamed = folder.with_name(f"{_UNFINISHED}removal-of-{folder.name}")
        if renamed.exists():
            renamed.rmtree()
        folder.rename(renamed).rmtree()
