import tensorflow as tf

from petseg.training import trainer


def test_training_from_a_cache_gives_the_same_weights(tiny_config, tmp_path):
    weights = {}
    for where in ("none", "memory"):
        tiny_config.data.cache = where
        run = str(tmp_path / where)
        trainer.train_and_evaluate(tiny_config, run)
        reader = tf.train.load_checkpoint(f"{run}/checkpoints/ckpt-10/variables")
        weights[where] = {
            name: reader.get_tensor(name).tobytes()
            for name in reader.get_variable_to_shape_map()
            if name.startswith("variables/")
        }
    assert weights["none"] == weights["memory"] and len(weights["none"]) > 10
