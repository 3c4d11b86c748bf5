import pytest
from testing.weights import assert_identical_weights, checkpoint_weights

from petseg.training import trainer


def test_training_from_a_cache_gives_the_same_weights(finished_run, tiny_config, tmp_path):
    tiny_config.data.cache = "memory"
    trainer.train_and_evaluate(tiny_config, str(tmp_path))
    straight, config = finished_run
    assert config.data.cache == "none"
    weights = checkpoint_weights(tmp_path, 10)
    assert_identical_weights(weights, checkpoint_weights(straight, 10))
    assert len(weights) > 10


@pytest.mark.slow
def test_training_on_decoded_images_gives_the_same_weights(tiny_config, tmp_path):
    tiny_config.train.epochs = 0.6
    # No window is twice as large: the JPEG's decoder would average its pixels in its own way.
    tiny_config.data.image_size = 128
    trainer.train_and_evaluate(tiny_config, str(tmp_path / "encoded"))
    tiny_config.data.cache, tiny_config.data.cache_decoded = "memory", True
    trainer.train_and_evaluate(tiny_config, str(tmp_path / "decoded"))
    weights = [checkpoint_weights(tmp_path / name, 3) for name in ("encoded", "decoded")]
    assert_identical_weights(*weights)
    assert len(weights[0]) > 10
