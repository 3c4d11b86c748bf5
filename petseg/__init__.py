"""petseg: folders of images and label masks in, a trained segmentation model out."""

import os

# Both must be set before TensorFlow or Keras is imported anywhere.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

__version__ = "0.1.0"
