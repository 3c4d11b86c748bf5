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
