import concurrent.futures
import os
import threading

import numpy as np
import psutil
import pytest
import tensorflow as tf

from petseg.data import manifest
from petseg.errors import FaultFound, UserError
from petseg.input_pipeline import pipeline, reading, shard_cache
from petseg.input_pipeline.pipeline import InputOptions


def contents(shards: reading.Shards) -> list[bytes]:
    return [tf.io.gfile.GFile(path, "rb").read() for path in shards.paths]


def cache(data_dir, where):
    data = manifest.read_manifest(str(data_dir))
    splits = list(data.splits.values())
    folder = shard_cache.cache_shards(str(data_dir), splits, data.digest(), where)
    return [reading.shards_in(folder, split) for split in splits], splits


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_cache_holds_the_same_bytes(data_dir, tmp_path, where):
    cached, splits = cache(data_dir, where if where == "memory" else str(tmp_path / "cache"))
    for shards, split in zip(cached, splits, strict=True):
        assert contents(shards) == contents(reading.shards_in(str(data_dir), split))
        assert shards.num_records == split.records
        assert sum(1 for _ in reading.read(shards.paths)) == split.records
    assert not any(path.startswith(str(data_dir)) for path in cached[0].paths)


def test_whole_copies_are_kept_and_cut_or_interrupted_ones_are_made_again(data_dir, tmp_path):
    where = str(tmp_path / "cache")
    (first, *_), (split, *_) = cache(data_dir, where)
    good, damaged, lost = first.paths[:3]
    before = os.stat(good).st_mtime_ns
    os.truncate(damaged, os.stat(damaged).st_size - 1)
    os.rename(lost, f"{lost}.tmp")
    again = cache(data_dir, where)[0][0]
    assert contents(again) == contents(reading.shards_in(str(data_dir), split))
    assert os.stat(good).st_mtime_ns == before


def test_commands_that_share_a_folder_copy_one_after_the_other(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_cache, "_CHUNK_BYTES", 512)  # so that copies would overlap
    where, start = str(tmp_path / "cache"), threading.Barrier(4)

    def command(_):
        start.wait(timeout=300)
        return cache(data_dir, where)[0]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(command, range(4)))
    (_, splits) = cache(data_dir, where)
    for shards in found:
        assert [contents(one) for one in shards] == [
            contents(reading.shards_in(str(data_dir), split)) for split in splits
        ]
    assert not list((tmp_path / "cache").rglob("*.tmp"))


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


def test_shards_that_do_not_fit_into_memory_are_refused(data_dir, monkeypatch):
    data = manifest.read_manifest(str(data_dir))
    full = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: full)
    with pytest.raises(UserError, match=r"config\.data\.cache=memory: the shards take"):
        shard_cache.cache_shards(str(data_dir), list(data.splits.values()), "another", "memory")


def test_a_file_where_the_folder_should_be_is_one_line(data_dir, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"config\.data\.cache=.*file"):
        cache(data_dir, str(tmp_path / "file"))


def test_batches_from_a_cache_are_those_of_the_data_set(data_dir):
    (cached, *_), (split, *_) = cache(data_dir, "memory")
    options = InputOptions(np.arange(256, dtype=np.uint8), 32, 4)
    batches = [
        list(pipeline.make_for_train(shards, options, start_step=2).take(6).as_numpy_iterator())
        for shards in (cached, reading.shards_in(str(data_dir), split))
    ]
    for one, other in zip(*batches, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
