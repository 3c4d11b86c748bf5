"""Shards are hashed when they are first read, also where TFRecord's own checksums agree."""

import dataclasses
import itertools
import shutil
import threading
from pathlib import Path

import pytest
import tensorflow as tf
from testing.configs import make_tiny_config

from petseg.data import tfrecord
from petseg.devices import Devices
from petseg.errors import FaultFound
from petseg.input_pipeline import pipeline, reading
from petseg.input_pipeline.verified_shards import VerifiedShards, faults_in_one_line
from petseg.training.data import DataSet, open_data_set

AT_ONCE = 2  # shards in a group, so that the few of the toy data set are several groups


def frames_of(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return [frame.data for frame in tfrecord.read_frames(file)]


def write_frames(path: Path, frames: list[bytes]) -> None:
    path.write_bytes(b"".join(map(tfrecord.frame, frames)))


def swap_records(path: Path) -> None:
    first, *middle, last = frames_of(path)
    write_frames(path, [last, *middle, first])


def change_a_record(path: Path) -> None:
    first, *others = frames_of(path)
    middle = len(first) // 2
    write_frames(path, [first[:middle] + bytes([first[middle] ^ 1]) + first[middle + 1 :], *others])


def lose_a_record(path: Path) -> None:
    write_frames(path, frames_of(path)[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_another(path: Path) -> None:
    other = next(p for p in sorted(path.parent.glob("*-train.*")) if p.name != path.name)
    shutil.copy(other, path)


SAME_SIZE = [swap_records, change_a_record]


@pytest.fixture
def config(data_dir, tmp_path):
    """Settings that read a copy of the data set, to damage."""
    shutil.copytree(data_dir, tmp_path / "data")
    return make_tiny_config(tmp_path / "data")


def read_train(data: DataSet, **changes) -> list[bytes]:
    """Training records of an epoch; those before an error are in `changes["into"]`."""
    into = changes.pop("into", [])
    settings = {"shuffle_records": 1, "seed": 0, "epochs": 1, "shards_at_once": AT_ONCE, **changes}
    records = reading.read_epochs(data.shards(data.train), **settings)
    with faults_in_one_line():
        for record in records.as_numpy_iterator():
            into.append(record)
    return into


def order_of_shards(data: DataSet) -> list[Path]:
    """The training shards in the order in which an epoch reads them."""
    paths = map(Path, data.shards(data.train).paths)
    shard_of = {frame: path for path in paths for frame in frames_of(path)}
    order = list(dict.fromkeys(shard_of[record] for record in read_train(data, shards_at_once=1)))
    assert len(order) == len(data.train.shards) > 2 * AT_ONCE
    return order


@pytest.mark.parametrize(
    "damage", [*SAME_SIZE, lose_a_record, empty, replace_by_another], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("place", [0, -1])
def test_a_shard_that_differs_is_named_before_its_records_are_used(config, damage, place):
    data = open_data_set(config)
    good, damaged = read_train(data), order_of_shards(data)[place]
    data = open_data_set(config)
    its_records = frames_of(damaged)
    damage(damaged)
    read = []
    with pytest.raises(FaultFound) as caught:
        read_train(data, into=read)
    line = str(caught.value)
    assert line.startswith(f"config.data.dir: {damaged} ")
    assert line.endswith("; convert the data set again") and line.isprintable()
    assert read == good[: len(read)] and not set(its_records) & set(read)
    if place == 0:  # the group holds another shard
        assert len(read) < len(good) / 2


def test_a_shard_that_is_not_read_yet_is_not_hashed(config):
    data = open_data_set(config)
    opened, order = [], order_of_shards(data)

    class Noting(VerifiedShards):
        def verify(self, paths: list[str], is_awaited: bool = False) -> None:
            super().verify(paths, is_awaited)
            opened.extend(paths)

    swap_records(order[-1])
    data = open_data_set(config)
    noting = Noting(data.folder, [data.train], "", "")
    data = dataclasses.replace(data, verified=noting)
    records = reading.read_epochs(
        data.shards(data.train), shuffle_records=1, seed=0, shards_at_once=1
    )
    next(iter(records))
    # The next group is hashed ahead, and one more where this one is in the buffer already.
    assert 0 < len(opened) <= 3 < len(order)


@pytest.mark.parametrize("start_record", [0, 9])
def test_records_of_a_group_come_while_the_next_group_is_hashed(config, start_record):
    data = open_data_set(config)
    good, order = read_train(data), order_of_shards(data)
    first_was_used, awaited, waited_in_vain = threading.Event(), [], []

    class Slow(VerifiedShards):
        def verify(self, paths: list[str], is_awaited: bool = False) -> None:
            awaited.append(is_awaited)
            if len(awaited) > 1 and not first_was_used.wait(60):
                waited_in_vain.append(paths)
            super().verify(paths, is_awaited)

    data = dataclasses.replace(data, verified=Slow(data.folder, [data.train], "", ""))
    records = reading.read_epochs(
        data.shards(data.train),
        **{"shuffle_records": 1, "seed": 0, "epochs": 1, "shards_at_once": AT_ONCE},
        start_record=start_record,
    ).as_numpy_iterator()
    group_ends, ends = [], 0
    for first in range(0, len(order), AT_ONCE):
        ends += sum(len(frames_of(path)) for path in order[first : first + AT_ONCE])
        group_ends.append(ends)
    end = next(end for end in group_ends if end > start_record)
    read = [next(records) for _ in range(end - start_record)]
    assert not waited_in_vain
    first_was_used.set()
    assert read + list(records) == good[start_record:]
    assert awaited[0] and not any(awaited[1:])


def test_a_shard_before_the_position_of_a_resume_is_never_read(config):
    data = open_data_set(config)
    good, order = read_train(data), order_of_shards(data)
    skipped = sum(len(frames_of(path)) for path in order[:AT_ONCE])
    swap_records(order[0])
    data = open_data_set(config)
    assert read_train(data, start_record=skipped) == good[skipped:]
    with pytest.raises(FaultFound, match=order[0].name):
        read_train(data, start_record=skipped - 1)


def test_a_shard_is_hashed_once_however_many_pipelines_read_it(config):
    data = open_data_set(config)
    read_train(data)
    swap_records(order_of_shards(data)[0])
    assert len(read_train(data, epochs=3)) == 3 * data.train.records
    with pytest.raises(FaultFound):
        read_train(open_data_set(config))


def test_the_setting_leaves_hashes_out(config):
    config.data.verify_hashes = False
    data = open_data_set(config)
    swap_records(Path(data.shards(data.train).paths[0]))
    assert len(read_train(open_data_set(config))) == data.train.records


def test_a_worker_names_damage_in_what_it_reads(config):
    config.data.share_files = True
    data = open_data_set(config)
    shards = data.shards(data.train)
    even = len(shards.paths) // 2 * 2
    shards = dataclasses.replace(shards, paths=shards.paths[:even], records=shards.records[:even])
    change_a_record(Path(shards.paths[1]))

    def read(worker: int) -> int:
        batches = pipeline.make_for_train(
            shards, data.options, epochs=1, worker=worker, num_workers=2
        )
        with faults_in_one_line():
            return sum(1 for _ in batches)

    assert read(0) > 0
    with pytest.raises(FaultFound, match=Path(shards.paths[1]).name):
        read(1)


def test_evaluation_and_single_examples_name_damage(config):
    damaged = Path(open_data_set(config).shards(open_data_set(config).validation).paths[-1])
    swap_records(damaged)
    data = open_data_set(config)
    batches = data.image_batches(Devices(tf.distribute.get_strategy()))
    last = data.validation.records - 1
    for read in (lambda: list(batches.validation("all")), lambda: data.validation_examples([last])):
        with pytest.raises(FaultFound, match=damaged.name), faults_in_one_line():
            read()


@pytest.mark.parametrize("damage", SAME_SIZE, ids=lambda f: f.__name__)
def test_a_damaged_copy_in_a_cache_is_made_again_when_it_is_read(config, tmp_path, damage):
    good = read_train(open_data_set(config))
    config.data.cache = str(tmp_path / "cache")
    data = open_data_set(config)
    copy = Path(data.shards(data.train).paths[0])
    content = copy.read_bytes()
    damage(copy)
    assert read_train(open_data_set(config)) == good
    assert copy.read_bytes() == content
    # Where the data set is damaged, too, its shard is named.
    data = open_data_set(config)
    damage(copy)
    damage(Path(config.data.dir) / copy.name)
    with pytest.raises(FaultFound, match=f"^{config.data.dir}/{copy.name} differs"):
        read_train(data)


def test_a_service_sends_no_more_batches_once_a_shard_was_found_to_differ(config):
    dispatcher = tf.data.experimental.service.DispatchServer()
    address = dispatcher.target.split("://")[1]
    worker = tf.data.experimental.service.WorkerServer(
        tf.data.experimental.service.WorkerConfig(dispatcher_address=address)
    )
    config.data.service_address = dispatcher.target
    data = open_data_set(config)
    damaged = Path(data.shards(data.train).paths[-1])

    def batches() -> tf.data.Dataset:
        opened = open_data_set(config)
        return opened.image_batches(Devices(tf.distribute.get_strategy())).train("all", 0)

    assert len(list(itertools.islice(batches(), 10))) == 10
    change_a_record(damaged)
    with pytest.raises(FaultFound, match=rf"{damaged.name} differs .*again$"), faults_in_one_line():
        for _ in batches():
            pass
    del worker
