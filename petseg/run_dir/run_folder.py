"""The contract of a run folder: settings, data set and weights belong together.

RUN/config.json     the settings
RUN/manifest.json   the manifest of the data set it was trained on
RUN/checkpoints/    weights and optimizer state, one folder per checkpoint
RUN/evaluation/     figures, as JSON, and the panel
RUN/train, RUN/validation   TensorBoard's events
RUN/lock            held by the command that trains
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from etils import epath

from petseg import config_json, config_rules, locks, paths, registry
from petseg.config import Config
from petseg.data import json_file, manifest
from petseg.data.manifest import Manifest
from petseg.errors import UserError
from petseg.run_dir import checkpoints
from petseg.run_dir.evaluations import write_text

_CONFIG = "config.json"
_REMEDY = "restore it from a copy, or train again in a new --workdir"
_LOCK = "lock"
_LOCK_WAIT_S = 5  # a run that was just killed may still be ending
_NOTHING = (_LOCK, f"{_CONFIG}.tmp")  # what a run that was killed at once leaves


def check_is_ours(run_dir: str) -> None:
    """Checks that a run may be written to a folder: it is new, empty or a run.

    Raises:
      UserError: It is a file or holds something else, such as a data set.
    """
    root = epath.Path(run_dir)
    if not root.exists():
        return
    if not root.is_dir():
        raise UserError(f"--workdir={run_dir} is a file; name a new folder")
    names = paths.things_in(root)
    if _CONFIG in names:
        _check_is_config(run_dir)
    shards = [name for name in names if ".tfrecord-" in name]
    if shards and not checkpoints.saved_steps(run_dir):
        raise UserError(f"--workdir={run_dir} holds a data set ({shards[0]}); name a new folder")
    others = [name for name in names if name not in _NOTHING]
    if others and _CONFIG not in names:
        raise UserError(
            f"--workdir={run_dir} is neither empty nor a run of petseg-train ({others[0]}, ...); "
            "name a new folder"
        )


def _check_is_config(run_dir: str) -> None:
    path = epath.Path(run_dir) / _CONFIG
    try:
        content = json_file.read(path, Any)
    except ValueError:
        return  # damaged, as read_config says
    if not (isinstance(content, dict) and {"data", "model", "train"} <= content.keys()):
        raise UserError(
            f"--workdir={run_dir}: its {_CONFIG} is not that of a run of petseg-train; name a new "
            "folder"
        )


@contextlib.contextmanager
def claim(run_dir: str) -> Iterator[None]:
    """Creates a run folder and keeps other trainings out of it while the context lasts.

    If nothing was written, the folder is removed again.

    Raises:
      UserError: It holds something else (check_is_ours), or another command trains in it.
      OSError: It cannot be written.
    """
    check_is_ours(run_dir)
    root, is_new = epath.Path(run_dir), not epath.Path(run_dir).exists()
    root.mkdir(parents=True, exist_ok=True)
    if "://" in run_dir:  # object stores have no locks
        yield
        return
    is_busy = f"--workdir: another command trains in {run_dir}; wait for its end, or stop it"
    with locks.only_writer(str(root / _LOCK), _LOCK_WAIT_S, is_busy):
        try:
            yield
        except BaseException:
            if [path.name for path in root.iterdir()] == [_LOCK]:
                (root / _LOCK).unlink()
                if is_new:
                    root.rmdir()
            raise


def check_fits(run_dir: str, config: Config, data: Manifest) -> list[str]:
    """Checks that a run may begin, or be resumed, in a folder; writes nothing.

    Returns:
      One line for each setting that has changed since the run began.

    Raises:
      UserError: The folder's checkpoints come from another model, data set, batch size or
        seed.
    """
    if not checkpoints.saved_steps(run_dir):
        return []
    changed = []
    for name, (old, new) in config_rules.differences(read_config(run_dir), config).items():
        if not config_rules.may_change(name, old, new):
            raise UserError(
                f"--workdir={run_dir} was trained with {name}={old!r}, now it is {new!r}; name a "
                "new --workdir, or restore the setting"
            )
        changed.append(f"{name}: {old!r} before, {new!r} from now on")
    if read_data_manifest(run_dir).digest() != data.digest():
        raise UserError(
            f"--workdir={run_dir} was trained on another data set than {config.data.dir}; name "
            "that data set, or start from its weights with "
            f"--config.model.start_from={run_dir} and a new --workdir"
        )
    return changed


def write_settings(run_dir: str, config: Config, data: Manifest) -> None:
    """Writes the settings and the manifest of the data set to a claimed run folder."""
    # The settings first: they make the folder a run.
    write_text(epath.Path(run_dir) / _CONFIG, config_json.to_json(config))
    manifest.write_manifest(run_dir, data)


def read_config(run_dir: str) -> Config:
    """Reads RUN/config.json and imports the plugins that it names.

    Raises:
      UserError: It is missing or damaged, or of the first edition.
    """
    path = epath.Path(run_dir) / _CONFIG
    if not path.exists():
        if not epath.Path(run_dir).exists():
            raise UserError(
                f"--workdir={run_dir}: there is no such folder; petseg-train makes runs"
            )
        raise UserError(f"--workdir={run_dir} has no {_CONFIG}; it is not a run of petseg-train")
    try:
        text = json_file.read_bytes(path)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}; {_REMEDY}") from error
    if config_json.is_of_first_edition(text):
        raise UserError(
            f"--workdir={run_dir} is a run of petseg 0.1, which this version cannot read; train it "
            "again in a new --workdir (the data set need not be converted again)"
        )
    try:
        config = config_json.from_json(text)
        registry.load_plugins(config.plugins, f"{path}: plugins")
        config_rules.validate(config)
    except (ValueError, UserError) as error:
        raise UserError(f"{path} is damaged: {error}; {_REMEDY}") from error
    return config


def read_data_manifest(run_dir: str) -> Manifest:
    """Reads RUN/manifest.json; raises UserError if it is missing or damaged."""
    return manifest.read_manifest(run_dir, f"copy {manifest.FILE_NAME} from the run's data set")
