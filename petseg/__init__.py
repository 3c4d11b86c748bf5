"""petseg: folders of images and label masks in, a trained segmentation model out."""

import os

# All must be set before TensorFlow or Keras is imported anywhere.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# TensorFlow's default where the CPU has AVX-512. With AVX2 alone it is faster, too: VGG16 1.3
# times, training decoders up to 1.9 times; and machines differ less in their results.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# At level 2 every graph with a transpose prints that oneDNN wants AVX-512, even where the CPU
# has it. What goes wrong is raised as a Python exception.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from petseg.api import (
    Run,
    build_model,
    convert,
    load_dataset,
    load_recipe,
    load_run,
    train,
)
from petseg.config import Config, Stage
from petseg.errors import FaultFound, StoppedBySignal, UserError
from petseg.version import __version__

__all__ = [
    "Config",
    "FaultFound",
    "Run",
    "Stage",
    "StoppedBySignal",
    "UserError",
    "__version__",
    "build_model",
    "convert",
    "load_dataset",
    "load_recipe",
    "load_run",
    "train",
]
