"""Run folders without training."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from petseg import config_rules
from petseg.config import Config
from petseg.devices import Devices
from petseg.run_dir import checkpoints, run_folder
from petseg.training import setup, stages
from petseg.training.setup import RunSetup


def prepare(config: Config, folder: Path | None = None) -> RunSetup:
    """A run that is ready for its next step, on one device."""
    config_rules.validate(config)
    devices = Devices(tf.distribute.OneDeviceStrategy("/cpu:0"))
    return setup.prepare_run(config, str(folder) if folder else None, devices)


def write_run(folder: Path, config: Config, step: int = 3) -> dict[str, np.ndarray]:
    """A run with one checkpoint, of random weights: its weights by path."""
    run, rng = prepare(config), np.random.default_rng(step)
    for variable in run.model.variables:
        variable.assign(rng.normal(0, 0.1, variable.shape).astype(np.float32))
    folder.mkdir(parents=True)
    run_folder.write_settings(str(folder), run.config, run.data.manifest)
    variables = stages.model_variables(run.model, run.averages)
    variables |= run.stage.checkpoint_variables()
    checkpoints.save(variables, str(folder), run.checkpoint_metadata(step, {}))
    return {variable.path: variable.numpy() for variable in run.model.variables}
