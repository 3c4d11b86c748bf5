import tensorflow as tf

from petseg.training import trainer


def test_training_from_a_cache_gives_the_same_weights(tiny_config, tmp_path):
    weights = {}
    # No window is twice as large: its pixels would be averaged by the JPEG's decoder or not.
    tiny_config.data.image_size = 128
    for where, is_decoded in (("none", False), ("memory", False), ("memory", True)):
        tiny_config.data.cache, tiny_config.data.cache_decoded = where, is_decoded
        run = str(tmp_path / f"{where}_{is_decoded}")
        trainer.train_and_evaluate(tiny_config, run)
        reader = tf.train.load_checkpoint(f"{run}/checkpoints/ckpt-10/variables")
        weights[where, is_decoded] = {
            name: reader.get_tensor(name).tobytes()
            for name in reader.get_variable_to_shape_map()
            if name.startswith("variables/")
        }
    encoded, *others = weights.values()
    assert len(encoded) > 10
    assert others == [encoded, encoded]
