"""petseg: folders of images and label masks in, a trained segmentation model out."""

import os

# Both must be set before TensorFlow or Keras is imported anywhere.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# At level 2 every graph with a transpose prints that oneDNN wants AVX-512, even where the
# CPU has it. What goes wrong comes as a Python exception.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "0.1.0"
