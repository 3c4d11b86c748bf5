"""TensorFlow's errors of input, memory and network, in one line for the user."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from petseg import device_memory
from petseg.config import Config, DataConfig
from petseg.config_rules import FEATURE_CACHE_DIR
from petseg.data import manifest, shard_hashes
from petseg.errors import FaultFound
from petseg.input_pipeline.verified_shards import faults_in_one_line

# What TensorFlow raises, one or the other, when a host is gone.
_LOST = (
    *(tf.errors.UnavailableError, tf.errors.InternalError, tf.errors.AbortedError),
    *(tf.errors.CancelledError, tf.errors.DeadlineExceededError, tf.errors.UnknownError),
    tf.errors.FailedPreconditionError,
)


@contextlib.contextmanager
def in_one_line(config: Config, host_count: int) -> Iterator[None]:
    """Turns errors of damaged shards, absent files, memory and lost hosts into FaultFound."""
    data = config.data
    smaller = (
        f"try a smaller --config.data.batch_size than {data.batch_size}, or the same in more "
        f"parts: --config.optimizer.microbatches={2 * config.optimizer.microbatches}"
    )
    try:
        with device_memory.exhaustion_in_one_line(smaller), faults_in_one_line():
            yield
    except tf.errors.DataLossError as error:
        raise FaultFound(_name_damaged_shard(data, error)) from error
    except tf.errors.NotFoundError as error:
        where = " on a worker of the service" if data.service_address else ""
        raise FaultFound(f"a shard is gone{where}: {error.message}") from error
    except _LOST as error:
        if host_count == 1:
            raise
        reason = " ".join(error.message.split())[:200]
        raise FaultFound(
            f"another host is gone ({reason}); start the same command on all hosts again: they "
            "resume from the last checkpoint"
        ) from error


def _name_damaged_shard(data: DataConfig, error: tf.errors.DataLossError) -> str:
    folders = {
        "config.data.dir": (data.dir, "convert it again"),
        FEATURE_CACHE_DIR: (data.feature_cache_dir, "delete the folder; it will be made again"),
    }
    for setting, (folder, remedy) in folders.items():
        if folder:
            splits = manifest.read_manifest(folder).splits.values()
            for fault in shard_hashes.check_shards(folder, splits, hashes=True):
                return f"{setting}: {fault}; {remedy}"
    return f"a shard is damaged: {error.message}"
