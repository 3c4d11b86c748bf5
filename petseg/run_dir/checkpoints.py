"""Checkpoints that are whole or not there, each with a page about itself.

    RUN/checkpoints/ckpt-STEP/variables.index, variables.data-00000-of-00001
    RUN/checkpoints/ckpt-STEP/checkpoint.json

A checkpoint is written under another name and gets its own by one renaming. Its page holds
the SHA-256 of its files, and its own: TensorFlow's checksums cover the tensors, but a flipped
bit of the index may pass them.
"""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping

import tensorflow as tf
from etils import epath

from petseg.errors import UserError

FOLDER = "checkpoints"
_PAGE = "checkpoint.json"
_PREFIX = "variables"
_NAME = re.compile(r"ckpt-(\d+)")
_UNFINISHED = "unfinished-"
# A file that is cut short comes as IndexError, another model's as ValueError.
_UNREADABLE = (OSError, tf.errors.OpError, AssertionError, ValueError, IndexError)


@dataclasses.dataclass(frozen=True)
class Page:
    """What checkpoint.json says.

    Attributes:
      step: how many steps led here.
      about: what the model and its data are: names and values that JSON can hold.
      window: sums of the training curves since their last point, and 'steps', their number.
      metrics: of the evaluation at this step, by name; empty before it.
      sha256: of the other files, by name.
    """

    step: int
    about: dict[str, object]
    window: dict[str, float]
    metrics: dict[str, float]
    sha256: dict[str, str] = dataclasses.field(default_factory=dict)


def save(variables: Mapping[str, tf.Variable], workdir: str, page: Page) -> None:
    """Writes RUN/checkpoints/ckpt-STEP; nothing is seen of it before it is whole.

    Raises:
      OSError, tf.errors.OpError: it cannot be written; what was begun is removed.
    """
    folder = epath.Path(workdir) / FOLDER
    final, unfinished = folder / f"ckpt-{page.step}", folder / f"{_UNFINISHED}{page.step}"
    _remove(unfinished)
    unfinished.mkdir(parents=True)
    try:
        tf.train.Checkpoint(variables=dict(variables)).write(str(unfinished / _PREFIX))
        _write_page(unfinished / _PAGE, dataclasses.replace(page, sha256=_hash_files(unfinished)))
        # One of that name is damaged, or the same run came here before.
        _remove(final)
        unfinished.rename(final)
    except BaseException:
        _remove(unfinished)
        raise


def add_metrics(workdir: str, step: int, metrics: Mapping[str, float]) -> None:
    """Notes the scores of a checkpoint, if it is there, on its page."""
    path = epath.Path(workdir) / FOLDER / f"ckpt-{step}" / _PAGE
    if not path.exists():
        return
    page = dataclasses.replace(read_page(workdir, step), metrics=dict(metrics))
    temporary = path.with_name(_PAGE + ".tmp")
    _write_page(temporary, page)
    temporary.replace(path)


def remove_old(workdir: str, step: int, keep: int, best_metric: str) -> None:
    """Removes all but the `keep` latest checkpoints up to a step and the best one.

    A later one is what a run left behind that could not be restored: it must not push
    out the one just saved.
    """
    steps = [saved for saved in saved_steps(workdir) if saved <= step]
    best = best_step(workdir, best_metric)
    for old in steps[:-keep]:
        if old != best:
            _remove(epath.Path(workdir) / FOLDER / f"ckpt-{old}")


def remove_unfinished(workdir: str) -> None:
    """Removes what a run that was killed had begun to write."""
    folder = epath.Path(workdir) / FOLDER
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name.startswith(_UNFINISHED):
                _remove(path)


def saved_steps(workdir: str) -> list[int]:
    """The steps at which checkpoints stand in a run folder, in order."""
    folder = epath.Path(workdir) / FOLDER
    if not folder.is_dir():
        return []
    found = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match.group(1)) for match in found if match)


def best_step(workdir: str, metric: str) -> int | None:
    """The step whose checkpoint scored best, the earlier one of equals; None if none has."""
    best, found = -math.inf, None
    for step in saved_steps(workdir):
        try:
            value = read_page(workdir, step).metrics.get(metric)
        except (OSError, ValueError):
            continue
        if value is not None and value > best:
            best, found = value, step
    return found


def read_page(workdir: str, step: int) -> Page:
    """Reads a checkpoint's page.

    Raises:
      OSError: it is not there.
      ValueError: it is damaged.
    """
    text = (epath.Path(workdir) / FOLDER / f"ckpt-{step}" / _PAGE).read_text()
    try:
        content = json.loads(text)
        digest = content.pop("sha256_of_page")
        page = Page(**content)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{_PAGE} is damaged: {error}") from error
    if digest != _hash_page(page):
        raise ValueError(f"{_PAGE} is damaged: it differs from its SHA-256")
    if page.step != step:
        raise ValueError(f"{_PAGE} is that of step {page.step}")
    return page


def newest_readable(workdir: str) -> tuple[int, list[str]]:
    """Finds the newest checkpoint whose every byte can be read.

    Returns:
      Its step, and one line for each newer one that was passed over.

    Raises:
      UserError: there is none, or none can be read.
    """
    skipped: list[str] = []
    for step in reversed(saved_steps(workdir)):
        path = epath.Path(workdir) / FOLDER / f"ckpt-{step}"
        try:
            _check_whole(path, read_page(workdir, step))
            return step, skipped
        except _UNREADABLE as error:
            skipped.append(f"{path} cannot be restored: {_reason(error)}")
    if not skipped:
        raise UserError(f"--workdir={workdir} holds no checkpoint; train first")
    raise UserError(f"--workdir={workdir}: no checkpoint can be restored; {skipped[0]}")


def restore(variables: Mapping[str, tf.Variable], workdir: str, step: int) -> Page:
    """Restores variables by name; what else the checkpoint holds is left.

    Raises:
      UserError: it cannot be read, or lacks one of the variables.
    """
    path = epath.Path(workdir) / FOLDER / f"ckpt-{step}"
    try:
        page = read_page(workdir, step)
        _check_whole(path, page)
        status = tf.train.Checkpoint(variables=dict(variables)).read(str(path / _PREFIX))
        # A reader that only wants the model leaves the optimizer's state in the file.
        status.assert_existing_objects_matched().expect_partial()
        return page
    except _UNREADABLE as error:
        raise UserError(f"{path} cannot be restored: {_reason(error)}") from error


def _check_whole(folder: epath.Path, page: Page) -> None:
    found = _hash_files(folder)
    if missing := page.sha256.keys() - found.keys():
        raise ValueError(f"{min(missing)} is missing")
    for name, digest in page.sha256.items():
        if found[name] != digest:
            raise ValueError(f"{name} differs from its SHA-256")


def _hash_files(folder: epath.Path) -> dict[str, str]:
    """SHA-256 of a checkpoint's files but for its page."""
    found = {}
    for path in folder.iterdir():
        if path.name.startswith(_PREFIX):
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _write_page(path: epath.Path, page: Page) -> None:
    content = {**dataclasses.asdict(page), "sha256_of_page": _hash_page(page)}
    path.write_text(json.dumps(content, indent=1) + "\n")


def _hash_page(page: Page) -> str:
    text = json.dumps(dataclasses.asdict(page), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "message", error)).split())[:200]


def _remove(folder: epath.Path) -> None:
    """Removes a checkpoint so that nothing that looks like one is left half removed."""
    if folder.exists():
        going = folder.with_name(f"{_UNFINISHED}removal-of-{folder.name}")
        if going.exists():
            going.rmtree()
        folder.rename(going).rmtree()
