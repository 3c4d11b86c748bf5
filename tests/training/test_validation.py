"""Averaged weights during an evaluation."""

import keras
import pytest
import tensorflow as tf

from petseg.training.validation import averaged


def test_averaged_weights_are_there_within_the_context_alone():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="dense")])
    kernel, bias = model.variables
    before = kernel.numpy()
    averages = {kernel.path: tf.Variable(before + 1)}
    with averaged(model, averages):
        assert (kernel.numpy() == before + 1).all()
        assert (bias.numpy() == 0).all()
    assert (kernel.numpy() == before).all()
    with pytest.raises(KeyboardInterrupt), averaged(model, averages):
        raise KeyboardInterrupt
    assert (kernel.numpy() == before).all()
