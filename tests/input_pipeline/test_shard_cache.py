import os

import psutil
import pytest
import tensorflow as tf

from petseg.data import manifest
from petseg.errors import FaultFound, UserError
from petseg.input_pipeline import shard_cache, shard_reading
from petseg.training import loop


def contents(shards: shard_reading.Shards) -> list[bytes]:
    return [tf.io.gfile.GFile(path, "rb").read() for path in shards.paths]


def cache(data_dir, where):
    found = manifest.read_manifest(str(data_dir))
    splits = list(found.splits.values())
    folder = shard_cache.cache_shards(str(data_dir), splits, found.digest(), where)
    return [shard_reading.shards_in(folder, split) for split in splits], splits


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_cache_holds_the_same_bytes(data_dir, tmp_path, where):
    cached, splits = cache(data_dir, where if where == "memory" else str(tmp_path / "cache"))
    for shards, split in zip(cached, splits, strict=True):
        assert contents(shards) == contents(shard_reading.shards_in(str(data_dir), split))
        assert shards.num_records == split.records
        assert sum(1 for _ in shard_reading.read(shards.paths)) == split.records
    assert not any(path.startswith(str(data_dir)) for path in cached[0].paths)


def test_copies_stay_and_damaged_or_interrupted_ones_are_made_again(data_dir, tmp_path):
    where = str(tmp_path / "cache")
    (first, *_), (split, *_) = cache(data_dir, where)
    good, damaged, lost = first.paths[:3]
    before = os.stat(good).st_mtime_ns
    with open(damaged, "r+b") as file:
        file.seek(100)
        file.write(b"?")
    os.rename(lost, f"{lost}.tmp")
    again = cache(data_dir, where)[0][0]
    assert contents(again) == contents(shard_reading.shards_in(str(data_dir), split))
    assert os.stat(good).st_mtime_ns == before


def test_a_shard_that_differs_from_its_manifest_is_not_cached(data_dir, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in data_dir.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    shard = sorted(copy.glob("*train*"))[1]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(FaultFound, match=f"{shard.name} differs"):
        cache(copy, str(tmp_path / "cache"))
    assert not list((tmp_path / "cache").rglob(shard.name))


def test_what_does_not_fit_is_refused(data_dir, monkeypatch):
    found = manifest.read_manifest(str(data_dir))
    full = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr(shard_cache.psutil, "virtual_memory", lambda: full)
    with pytest.raises(UserError, match=r"config\.data\.cache=memory: the shards take"):
        shard_cache.cache_shards(str(data_dir), list(found.splits.values()), "another", "memory")


def test_a_file_in_the_place_of_the_folder_is_one_line(data_dir, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"config\.data\.cache=.*file"):
        cache(data_dir, str(tmp_path / "file"))


def test_training_from_a_cache_gives_the_same_weights(tiny_config, tmp_path):
    weights = {}
    for where in ("none", "memory"):
        tiny_config.data.cache = where
        run = str(tmp_path / where)
        loop.train_and_evaluate(tiny_config, run)
        reader = tf.train.load_checkpoint(f"{run}/checkpoints/ckpt-10/variables")
        weights[where] = {
            name: reader.get_tensor(name).tobytes()
            for name in reader.get_variable_to_shape_map()
            if name.startswith("variables/")
        }
    assert weights["none"] == weights["memory"] and len(weights["none"]) > 10
