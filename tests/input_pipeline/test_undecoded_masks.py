"""Masks that were never decoded (--validate=header) are, when their shard is first read."""

import itertools

import pytest
import tensorflow as tf
from PIL import Image
from testing.configs import make_tiny_config
from testing.conversion import convert

from petseg.data import tfrecord
from petseg.devices import Devices
from petseg.errors import FaultFound, UserError
from petseg.input_pipeline import reading
from petseg.input_pipeline.verified_shards import faults_in_one_line
from petseg.training.data import DataSet, open_data_set

UNKNOWN = 77  # a raw value without a class


def trimaps(pets):
    return sorted((pets / "annotations" / "trimaps").glob("[!.]*.png"))


def put_unknown(path) -> None:
    with Image.open(path) as mask:
        mask.putpixel((0, 0), UNKNOWN)
        mask.save(path)


def records_of(path: str) -> list[bytes]:
    with tf.io.gfile.GFile(path, "rb") as file:
        return [frame.data for frame in tfrecord.read_frames(file)]


def last_shard(data: DataSet, split: str) -> str:
    return data.shards(getattr(data, split)).paths[-1]


@pytest.fixture
def make_config(pets, tmp_path):
    """Makes settings for a data set with UNKNOWN in the last shard of a split; '' is none."""

    def make(split: str):
        convert(pets, tmp_path / "first", validate="header")
        odd = records_of(last_shard(open_data_set(make_tiny_config(tmp_path / "first")), split))
        for path in trimaps(pets):
            if path.read_bytes() in odd[0]:
                put_unknown(path)
        convert(pets, tmp_path / "data", validate="header")
        return make_tiny_config(tmp_path / "data")

    return make


def read(data: DataSet, split: str, into: list[bytes]) -> None:
    """Records of a split, one shard after the other."""
    shards = data.shards(getattr(data, split))
    with faults_in_one_line():
        for record in reading.read(shards.paths, 1, verified=shards.verified).as_numpy_iterator():
            into.append(record)


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("verify_hashes", [True, False])
@pytest.mark.parametrize("cache", ["none", "memory", "folder"])
def test_a_value_without_a_class_is_named_with_its_shard(
    make_config, tmp_path, split, verify_hashes, cache
):
    config = make_config(split)
    config.data.verify_hashes = verify_hashes
    config.data.cache = str(tmp_path / "cache") if cache == "folder" else cache
    data = open_data_set(config)
    odd, into = last_shard(data, split), []
    with pytest.raises(UserError) as caught:
        read(data, split, into)
    assert caught.value.exit_status == 2
    start = f"config.data.label_map: {odd} has mask values {UNKNOWN} that "
    assert str(caught.value).startswith(start) and str(caught.value).isprintable()
    its_records = records_of(odd)
    assert len(into) >= len(records_of(data.shards(getattr(data, split)).paths[0]))
    assert its_records and not set(its_records) & set(into)


def test_a_value_that_is_ignored_stops_nothing(make_config):
    config = make_config("train")
    config.data.label_map = f"pet=1; background=2; border=3; ignored={UNKNOWN}"
    data, into = open_data_set(config), []
    read(data, "train", into)
    assert len(into) == data.train.records


def test_training_and_evaluation_batches_stop(make_config):
    data = open_data_set(make_config("train"))
    batches = data.image_batches(Devices(tf.distribute.get_strategy()))
    with pytest.raises(UserError, match=f"mask values {UNKNOWN} "), faults_in_one_line():
        list(itertools.islice(batches.train("all", 0), data.train.records))
    assert list(batches.validation("all"))


def test_a_mask_that_cannot_be_decoded_is_a_fault_of_its_shard(pets, tmp_path):
    for path in trimaps(pets):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    convert(pets, tmp_path / "data", validate="header")
    data = open_data_set(make_tiny_config(tmp_path / "data"))
    first = data.shards(data.train).paths[0]
    with pytest.raises(FaultFound, match=f"^{first}, record 0: its mask cannot be decoded$"):
        read(data, "train", [])


def test_counted_masks_are_checked_by_the_manifest(data_dir):
    config = make_tiny_config(data_dir)
    config.data.label_map = "pet=1; background=2"
    with pytest.raises(UserError, match="has mask values 3 that"):
        open_data_set(config)


def test_a_feature_cache_checks_all_masks_at_its_start(make_config, tmp_path):
    config = make_config("validation")
    config.data.feature_cache_dir = str(tmp_path / "features")
    with pytest.raises(UserError, match=f"mask values {UNKNOWN} "):
        open_data_set(config)
