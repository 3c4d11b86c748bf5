"""A whole life of a run in folders whose names TensorFlow takes for patterns."""

import shutil

import numpy as np
import pytest
from testing.configs import make_tiny_config

import petseg
from petseg.conversion.sources.base import SourceOptions
from petseg.conversion.sources.tfds_dataset import list_tfds

ODD_NAME = "r [lr 0.1] *x? {a} \\d"


@pytest.mark.slow
def test_a_run_in_a_folder_of_odd_characters_is_resumed_evaluated_and_exported(raw_pets, tmp_path):
    root = tmp_path / ODD_NAME
    shutil.copytree(raw_pets, root / "raw")
    petseg.convert(root / "raw", root / "records", show_progress=False)
    config = make_tiny_config(root / "records")
    config.train.epochs = 0.2  # one step
    config.data.feature_cache_dir = str(root / "features")
    config.augment.min_crop_area = 1.0
    first = petseg.train(config, root / "run")
    history = first.history
    assert [figures["step"] for figures in history] == [0, 1]

    config.train.epochs = 0.4
    run = petseg.train(config, root / "run")
    assert [figures["step"] for figures in run.history] == [0, 1, 2]
    assert run.history[:2] == history
    assert run.evaluate()["checkpoint_step"] == 2
    assert run.predict(np.zeros([40, 30, 3], np.uint8)).shape == (40, 30)
    # No SavedModel goes there: TensorFlow could not load it.
    assert run.export(tmp_path / "model")["checkpoint_step"] == 2

    listing = list_tfds(SourceOptions(raw_dir=str(root / "records")))
    assert len(listing.examples) == 32

    config.model.start_from = str(root / "run")
    config.data.feature_cache_dir = ""
    started = petseg.train(config, root / "second")
    assert [figures["step"] for figures in started.history] == [0, 2]
