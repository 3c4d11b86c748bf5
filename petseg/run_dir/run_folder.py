"""The contract of a run folder: settings, data set and weights belong together.

RUN/config.json     the settings
RUN/manifest.json   the manifest of the data set it was trained on
RUN/checkpoints/    weights and optimizer state, one folder per checkpoint
RUN/evaluation/     figures, as JSON, and the panel
RUN/train, RUN/validation   TensorBoard's events
"""

from etils import epath

from petseg import config_rules, registry
from petseg.config import Config
from petseg.data import json_file, manifest
from petseg.data.manifest import Manifest
from petseg.errors import UserError
from petseg.run_dir import checkpoints
from petseg.run_dir.evaluations import write_text

_CONFIG = "config.json"
_REMEDY = "restore it from a copy, or train again in a new --workdir"


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
    """Creates a run folder, with the settings and the manifest of its data set."""
    root = epath.Path(run_dir)
    root.mkdir(parents=True, exist_ok=True)
    manifest.write_manifest(run_dir, data)
    write_text(root / _CONFIG, config_rules.to_json(config))


def read_config(run_dir: str) -> Config:
    """Reads RUN/config.json and imports the plugins that it names.

    Raises:
      UserError: It is missing or damaged, or of the first edition.
    """
    path = epath.Path(run_dir) / _CONFIG
    if not path.exists():
        raise UserError(f"--workdir={run_dir} has no {_CONFIG}; it is not a run of petseg-train")
    try:
        text = json_file.read_bytes(path)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}; {_REMEDY}") from error
    if config_rules.is_of_first_edition(text):
        raise UserError(
            f"--workdir={run_dir} is a run of petseg 0.1, which this version cannot read; train it "
            "again in a new --workdir (the data set need not be converted again)"
        )
    try:
        config = config_rules.from_json(text)
        registry.load_plugins(config.plugins, f"{path}: plugins")
        config_rules.validate(config)
    except (ValueError, UserError) as error:
        raise UserError(f"{path} is damaged: {error}; {_REMEDY}") from error
    return config


def read_data_manifest(run_dir: str) -> Manifest:
    """Reads RUN/manifest.json; raises UserError if it is missing or damaged."""
    return manifest.read_manifest(run_dir, f"copy {manifest.FILE_NAME} from the run's data set")
