import concurrent.futures
import copy
import threading

import pytest
import tensorflow as tf

from petseg.config import Config, Stage
from petseg.devices import Devices
from petseg.errors import UserError
from petseg.training import same_settings


class Hosts:
    """Hosts as threads, which add numbers as a cluster does."""

    def __init__(self, count):
        self._count, self._rows = count, [[]] * count
        self._barrier = threading.Barrier(count, timeout=300)

    def _devices(self, index):
        def agree(numbers):
            self._rows[index] = list(numbers)
            self._barrier.wait()
            sums = [sum(column) for column in zip(*self._rows, strict=True)]
            self._barrier.wait()
            return sums

        return Devices(tf.distribute.get_strategy(), agree, index, self._count)

    def check(self, configs, digests):
        """What check_same says on each host: a message, or None."""

        def on_host(index):
            try:
                same_settings.check_same(configs[index], digests[index], self._devices(index))
            except UserError as error:
                return str(error)
            return None

        with concurrent.futures.ThreadPoolExecutor(self._count) as pool:
            return list(pool.map(on_host, range(self._count)))


@pytest.fixture
def configs():
    config = Config()
    config.data.dir, config.data.label_map = "/data/pets", "Müller=1; 背景=2"
    return [copy.deepcopy(config) for _ in range(3)]


def set_rate(config):
    config.train.learning_rate = 0.5


def set_batch(config):
    config.data.batch_size = 1024


def set_stages(config):
    config.train.stages = [Stage("all", 1.0, 1e-3)]


def set_cache(config):
    config.data.feature_cache_dir = "/cache"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (set_rate, "config.train.learning_rate is 0.002 on host 0 and 0.5 on host 2"),
        (set_batch, "config.data.batch_size"),
        (set_stages, "config.train.stages"),
        (set_cache, "config.data.feature_cache_dir is '' on host 0 and '/cache' on host 2"),
    ],
)
def test_a_setting_that_differs_is_named_on_every_host(configs, change, name):
    configs[0].train.learning_rate = configs[1].train.learning_rate = 0.002
    configs[2].train.learning_rate = 0.002
    change(configs[2])
    said = Hosts(3).check(configs, ["d"] * 3)
    assert name in said[0] and said == [said[0]] * 3


def test_other_data_is_named_on_every_host(configs):
    said = Hosts(3).check(configs, ["d", "e", "d"])
    assert "the data set (SHA-256 of its manifest) is 'd' on host 0 and 'e' on host 1" in said[0]
    assert said == [said[0]] * 3


def test_each_host_may_have_the_data_in_another_place(configs):
    configs[1].data.dir, configs[2].data.dir = "/mnt/pets", "gs://bucket/pets"
    for config in configs:
        config.model.encoder_weights = f"/{id(config)}/vgg16.h5"
    assert Hosts(3).check(configs, ["d"] * 3) == [None] * 3
